"""The kinds of input: what is sound, how it is changed, and which commands take it."""

import io
import json
import os
import pickle
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torchvision
import yaml
from mutations import changed_bytes, changed_text, changed_tree
from PIL import Image
from safetensors.torch import save_file
from tiny_boxes import write_coco, write_voc
from trial import SENTINEL, Commands, Kind

from scfs.cli import main
from scfs.config.data import ImageFolders
from scfs.data.archives.extraction import extract
from scfs.data.archives.members import members
from scfs.data.prepare import prepare

ROOT = Path(__file__).resolve().parents[2]
STUDIES = ("params.yaml", "config/imagenet100/params.yaml", "config/mini/params.yaml")
"""Without the paper's, which takes seconds to load and has no other kinds of settings."""
MINE: Commands = [["prepare", "mine"], ["inspect", "mine"], ["data", "verify", "mine"]]
FORMATS = {"jpg": "jpeg", "tif": "tiff"}

KINDS: dict[str, Kind] = {}


def kind(function: Kind) -> Kind:
    """Add a kind under its function's name."""
    KINDS[function.__name__] = function
    return function


def make_sound(folder: Path) -> None:
    """Write all that is changed later: images, a prepared set, weights of a torchvision ResNet-18 in four kinds of file."""
    for split in ("train", "val"):
        for label in ("cat", "dog"):
            (folder / "images" / split / label).mkdir(parents=True)
            for number in range(3):
                pixels = np.random.default_rng(number).integers(0, 256, (24, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / "images" / split / label / f"{number}.png")
    splits = {split: str(folder / "images" / split) for split in ("train", "val")}
    prepare("mine", ImageFolders(source="folder", splits=splits), folder / "prepared")
    torch.manual_seed(0)
    state = torchvision.models.resnet18(num_classes=10).state_dict()
    torch.save(state, folder / "theirs.pth")
    save_file(state, folder / "theirs.safetensors")
    from scfs.config.pretrain import Imported
    from scfs.weights.import_weights import import_weights

    theirs = folder / "theirs.safetensors"
    settings = Imported(weights=str(theirs), format="torchvision", backbone="resnet18")
    import_weights(theirs, "torchvision", folder / "ours.safetensors", "ours", settings)


def write_study(source: dict[str, Any]) -> None:
    """Write a study with one data set."""
    Path("params.yaml").write_text(yaml.safe_dump({"study": "t", "data": {"mine": source}}))


# --- studies -----------------------------------------------------------------------------------------------------------


@kind
def study(random: Random, sound: Path) -> Commands:
    """A study of the repository: its text or its values changed."""
    for name in STUDIES:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, name)
    file = Path(random.choice(STUDIES))
    text = file.read_text()
    if random.random() < 0.5:
        content = changed_text(random, text)
    else:
        tree = changed_tree(random, yaml.safe_load(text))
        content = yaml.dump(tree, allow_unicode=True).encode(errors="surrogatepass")
    file.write_bytes(content)
    command = random.choice((["plan"], ["dvc-file"], ["summary"], ["status"]))
    return [["--params", str(file), *command]]


# --- images and their tables -------------------------------------------------------------------------------------------


def encoded(random: Random) -> tuple[str, bytes]:
    """An image of some format and mode, and its ending."""
    ending, options = random.choice((
        ("png", {}), ("png", {"bits": 4}), ("jpg", {}), ("jpg", {"progressive": True}), ("jpeg", {"quality": 20}),
        ("webp", {}), ("webp", {"lossless": True}), ("tiff", {}), ("tif", {"compression": "tiff_lzw"}), ("bmp", {}), ("gif", {}),
    ))  # fmt: skip
    mode = random.choice(("RGB", "RGB", "L", "P", "1", "RGBA", "LA", "CMYK", "I;16", "I", "F", "YCbCr"))
    size = random.choice(((32, 24), (1, 1), (1, 300), (257, 3)))
    image = Image.fromarray(np.random.default_rng(random.randrange(99)).integers(0, 256, (*size, 3), dtype=np.uint8))
    content = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = random.randint(1, 8)
    for chosen in (mode, "RGB"):
        try:
            image.convert("L").convert(chosen).save(content, FORMATS.get(ending, ending), exif=exif, **options)
            break
        except (OSError, ValueError, KeyError):
            content = io.BytesIO()
    return ending, content.getvalue()


@kind
def image(random: Random, sound: Path) -> Commands:
    """A folder of images, of which one or two are changed, named otherwise, links or special files."""
    shutil.copytree(sound / "images", "mine")
    for number in range(random.randint(1, 2)):
        ending, content = encoded(random)
        if random.random() < 0.8:
            content = changed_bytes(random, content)
        if random.random() < 0.2:
            ending = random.choice(("PNG", "jpg", "png", "JPEG", "jfif", "txt", "heic", ""))
        path = Path("mine/train", random.choice(("cat", "dog")), f"odd{number}.{ending}")
        path.write_bytes(content)
        match random.randrange(20):
            case 0:
                path.with_name(f"link{number}.png").symlink_to("..")
            case 1:
                path.unlink()
                path.symlink_to(random.choice(("/dev/zero", "nowhere", path.name, "../..")))
            case 2:
                os.mkfifo(path.with_name(f"pipe{number}.png"))
            case 3:
                Path(os.fsdecode(os.fsencode(path.parent) + b"/\xff\xfe")).mkdir(exist_ok=True)
                shutil.copy(sound / "images/train/cat/0.png", os.fsencode(path.parent) + b"/\xff\xfe/a.png")
    write_study({"source": "folder", "splits": {"train": "mine/train", "val": "mine/val"}})
    return MINE


@kind
def table(random: Random, sound: Path) -> Commands:
    """A CSV or Parquet file that names images and labels."""
    shutil.copytree(sound / "images", "mine")
    paths = sorted(str(path) for path in Path("mine/train").rglob("*.png"))
    labels = [random.choice(("cat", "001", "1", "1.0", "true", "é", "", "12:30")) for _ in paths]
    if random.random() < 0.6:
        lines = ["path,label", *(f"{path},{label}" for path, label in zip(paths, labels))]
        content, name = changed_text(random, "\n".join(lines) + "\n", " ,\n"), "train.csv"
    else:
        types: list[Any] = [pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int8(), pa.string())]
        columns = {"path": pa.array(paths, types[0]), "label": pa.array(labels).cast(random.choice(types[:2]))}
        content, name = _parquet(pa.table(columns)), "train.parquet"
        content = changed_bytes(random, content)
    Path(name).write_bytes(content)
    write_study({"source": "table", "splits": {"train": name, "val": name}})
    return MINE


def _parquet(table: pa.Table) -> bytes:
    content = io.BytesIO()
    pq.write_table(table, content)
    return content.getvalue()


# --- boxes -------------------------------------------------------------------------------------------------------------


@kind
def coco(random: Random, sound: Path) -> Commands:
    """Annotations in COCO's format."""
    write_coco(Path("mine"))
    file = Path("mine/train.json")
    tree = json.loads(file.read_text())
    if random.random() < 0.3:
        tree["annotations"][0]["segmentation"] = {
            "size": [10, 20],
            "counts": "".join(map(chr, random.choices(range(32, 127), k=random.randint(0, 60)))),
        }
    tree = changed_tree(random, tree)
    text = json.dumps(tree)
    file.write_bytes(changed_text(random, text) if random.random() < 0.3 else text.encode(errors="surrogatepass"))
    write_study({"source": "coco", "splits": {"train": {"images": "mine/train", "annotations": "mine/train.json"}}})
    return MINE


@kind
def voc(random: Random, sound: Path) -> Commands:
    """A VOC devkit: one of its annotations or its list."""
    images: Any = {"000012": ((20, 10), [("dog", (1, 1, 20, 10), "0"), ("person", (3, 2, 12, 9), "1")]),
                   "000005": ((16, 12), [("person", (2, 3, 12, 9), "0")])}  # fmt: skip
    listed = write_voc(Path("kit"), "train", images)
    file = random.choice((listed, *sorted(Path("kit/Annotations").iterdir())))
    file.write_bytes(changed_text(random, file.read_text().replace("><", ">\n<")))
    write_study({"source": "voc", "splits": {"train": [str(listed)]}})
    return MINE


# --- manifests and archives --------------------------------------------------------------------------------------------


@kind
def manifest(random: Random, sound: Path) -> Commands:
    """The manifest of a prepared set."""
    shutil.copytree(sound / "prepared", "data/mine")
    file = Path("data/mine/manifest.parquet")
    content = bytearray(file.read_bytes())
    if random.random() < 0.5:
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    else:
        content = bytearray(changed_bytes(random, bytes(content)))
    file.write_bytes(content)
    write_study({"source": "folder", "splits": {"train": "mine/train", "val": "mine/val"}})
    return MINE[1:]


@kind
def archive(random: Random, sound: Path) -> Commands:
    """A tar, its compressed forms, or a zip."""
    ending = random.choice(("zip", "tar", "tar.gz", "tar.bz2", "tar.xz"))
    path = Path(f"set.{ending}")
    names = [
        random.choice(("../up", "/abs", "a/../b", "x" * 300, "", "a//b", "é"))
        if random.random() < 0.15
        else f"a/{number}.jpg"
        for number in range(4)
    ]
    if ending == "zip":
        with zipfile.ZipFile(
            path, "w", random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
        ) as zipped:
            for name in names:
                zipped.writestr(zipfile.ZipInfo(name), random.randbytes(random.choice((0, 10, 3000))))
    else:
        with tarfile.open(path, f"w:{ending[4:]}") as tarred:
            for name in names:
                info = tarfile.TarInfo(name)
                content = random.randbytes(random.choice((0, 10, 3000)))
                info.size, info.type = (
                    len(content),
                    random.choice((tarfile.REGTYPE, tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE)),
                )
                info.linkname = random.choice(("/etc/passwd", "..", name))
                tarred.addfile(info, io.BytesIO(content))
    if random.random() < 0.8:
        path.write_bytes(changed_bytes(random, path.read_bytes()))
    return [
        lambda: extract(lambda: ((member.name, member) for member in members(path)), Path("taken/here")),
        _none_outside,
    ]


def _none_outside() -> None:
    outside = [path for path in Path().iterdir() if path.name != "taken" and not path.name.startswith("set.")]
    assert not outside and [path.name for path in Path("taken").iterdir()] == ["here"], (
        f"Traceback (most recent call last): {outside}"
    )


# --- weights -----------------------------------------------------------------------------------------------------------


class Evil:
    """A pickle that runs a command where it is read without care."""

    def __reduce__(self) -> Any:
        return os.system, (f"touch {SENTINEL}",)


def changed_tensors(random: Random, state: dict[str, Any]) -> Any:
    """One to three tensors of another kind, shape or content; perhaps wrapped."""
    kinds: tuple[Callable[[torch.Tensor], Any], ...] = (
        lambda value: value * float("nan"), lambda value: value.half(), lambda value: value.to(torch.int64), lambda value: value[:1],
        lambda value: value.unsqueeze(0), lambda value: value.to_sparse(), lambda value: value.to("meta"), lambda value: value.to(torch.complex64),
        lambda value: torch.quantize_per_tensor(value.float(), 0.1, 0, torch.qint8), lambda value: value.reshape(-1)[:0], lambda value: None,
        lambda value: 3, lambda value: "text", lambda value: [value], lambda value: Evil(), lambda value: value.numpy(),
        lambda value: value.to(torch.bfloat16), lambda value: torch.nn.Parameter(value.float()), lambda value: torch.zeros(1).expand(10**9),
    )  # fmt: skip
    whole = {name: value for name, value in state.items() if value.ndim}
    state = dict(state)
    for name in random.sample(sorted(whole), random.randint(1, 3)):
        match random.randrange(4):
            case 0:
                del state[name]
            case 1:
                state[random.choice((f"module.{name}", f"{name}.x", "", "a" * 300, 7, ("a",)))] = state.pop(name)
            case _:
                state[name] = random.choice(kinds)(whole[name])
    match random.randrange(6):
        case 0:
            return {
                random.choice(("state_dict", "model", "teacher", "student")): {
                    f"module.{key}": value for key, value in state.items()
                }
            }
        case 1:
            return {"state_dict": state, "epoch": Evil(), "hyper_parameters": {"lr": 1}}
        case 2:
            return random.choice((None, 7, [state], torch.zeros(3), "text", Evil(), {}))
    return state


@kind
def pickled_weights(random: Random, sound: Path) -> Commands:
    """A .pth file of others: its tensors, or its bytes."""
    file = Path("w.pth")
    if random.random() < 0.6:
        state = torch.load(sound / "theirs.pth", weights_only=True)
        with file.open("wb") as opened:
            if random.random() < 0.1:
                pickle.dump(changed_tensors(random, state), opened)
            else:
                torch.save(changed_tensors(random, state), opened, _use_new_zipfile_serialization=random.random() < 0.8)
    else:
        file.write_bytes(_changed_ends(random, (sound / "theirs.pth").read_bytes()))
    return _import(file)


@kind
def safetensors(random: Random, sound: Path) -> Commands:
    """A .safetensors file of others, or our own that is exported."""
    name = random.choice(("theirs", "ours"))
    file = Path("w.safetensors")
    file.write_bytes(_changed_ends(random, (sound / f"{name}.safetensors").read_bytes()))
    if name == "theirs":
        return _import(file)
    return [
        [
            "export",
            str(file),
            "--format",
            random.choice(("torchvision", "safetensors", "pth", "detectron2")),
            "--out",
            "out.safetensors",
        ]
    ]


def _changed_ends(random: Random, content: bytes) -> bytes:
    """Changes near the start, where a header is, or near the end, where a directory is."""
    size = random.choice((8, 4096, 20000))
    if random.random() < 0.6:
        return changed_bytes(random, content[:size]) + content[size:]
    return content[:-size] + changed_bytes(random, content[-size:])


def _import(file: Path) -> Commands:
    return [
        ["import-weights", str(file), "--format", "torchvision", "--backbone", "resnet18", "--out", "out.safetensors"]
    ]


assert main, "imported before the forks"
