"""Official archives and disks that are not as they should be: one clear line, nothing good lost, the next call goes on."""

import json
import os
import random
import resource
import shutil
import signal
import sys
from collections import namedtuple
from contextlib import contextmanager
from functools import partial

import pytest
from archive_packing import picture, write
from tiny_official import files, install, make, published, tiny_archives, tiny_catalogue

from scfs.config import official_sets as module
from scfs.data.manifest import describe
from scfs.data.official import ingest
from scfs.data.opening import open_split
from scfs.errors import ScfsError
from scfs.io import ordered_map

ENTRIES = ("imagenet", "cifar10", "cub200", "voc", "coco")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archives")
    return folder, tiny_catalogue(folder, ENTRIES)


@pytest.fixture
def archives(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "sync", lambda: None)  # which waits for all that others write
    shutil.copytree(tiny[0], tmp_path / "datasets/archives")
    install(tiny[1], monkeypatch)
    monkeypatch.setattr(ingest, "MOST_IMAGES", 2)
    monkeypatch.setattr(ordered_map, "MOST_ITEMS", 1)
    return tmp_path / "datasets/archives"


def republish(monkeypatch, archives, entry, change, **values):
    """Change the archives of an entry, and the catalogue with them, as if they had always been so."""
    content = tiny_archives(entry)
    change(content)
    paths = write(content, archives / entry)
    sets = dict(module.catalogue())
    new = {role: module.Archive(**published(path)) for role, path in paths.items()}
    sets[entry] = sets[entry].model_copy(update={"archives": new, **values})
    monkeypatch.setattr(module, "catalogue", lambda: sets)
    return paths


def refused(tmp_path, entry, layout="folder", **settings):
    """The line with which `prepare` refuses, which leaves neither a manifest nor anything half done."""
    with pytest.raises(ScfsError) as error:
        make(tmp_path, entry, layout, **settings)
    folder = tmp_path / "data" / f"set-{layout}"
    assert not (folder / "manifest.parquet").exists()
    assert not list(folder.rglob("*.tmp")) and not (folder / ".part").exists()
    assert "\n" not in str(error.value)
    return str(error.value)


# --- archives ---


def test_missing_archives_are_named_all_at_once(tmp_path, archives):
    shutil.rmtree(archives / "imagenet")
    line = refused(tmp_path, "imagenet")
    for name in ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz"):
        assert f"datasets/archives/imagenet/{name}" in line
    assert line.startswith("archives are missing: ") and line.endswith("(by hand: from the tests)")


def test_another_checksum(tmp_path, archives):
    path = archives / "cifar10/cifar-10-binary.tar.gz"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    line = refused(tmp_path, "cifar10")
    assert "cifar-10-binary.tar.gz: not the file of the catalogue" in line and "its SHA-256 is" in line
    assert path.is_file()
    path.write_bytes(content)
    assert len(open_split(make(tmp_path, "cifar10"), "train")) == 10


def test_a_truncated_archive(tmp_path, archives):
    path = archives / "imagenet/ILSVRC2012_img_val.tar"
    content = path.read_bytes()
    path.write_bytes(content[:5000])
    assert f"it has 5000 bytes, the catalogue says {len(content)}" in refused(tmp_path, "imagenet", "shards")


@pytest.mark.parametrize("layout", ["folder", "shards"])
def test_an_archive_that_is_published_broken(tmp_path, archives, monkeypatch, layout):
    """What was taken before the break stays, and is not read again."""
    path = republish(monkeypatch, archives, "imagenet", lambda content: None)["train"]
    path.write_bytes(path.read_bytes()[:-20_000])
    sets = module.catalogue()
    sets["imagenet"].archives["train"] = module.Archive(**published(path))
    assert "ILSVRC2012_img_train.tar" in refused(tmp_path, "imagenet", layout)
    folder = tmp_path / "data" / f"set-{layout}"
    assert list((folder / ".rows").glob("train-*.parquet"))


def test_a_missing_label_file(tmp_path, archives, monkeypatch):
    republish(monkeypatch, archives, "cub200", lambda c: c["images"].members.pop("CUB_200_2011/classes.txt"))
    line = refused(tmp_path, "cub200")
    assert "CUB_200_2011.tgz: no file CUB_200_2011/classes.txt in it" in line


def test_another_number_of_images(tmp_path, archives, monkeypatch):
    republish(monkeypatch, archives, "cub200", lambda content: None, splits={"train": 4, "test": 2})
    assert refused(tmp_path, "cub200") == "set: 3 images of split train in the archives, 4 are expected"
    republish(monkeypatch, archives, "cub200", lambda content: None, splits={"train": 3, "val": 2})
    assert "splits ['test', 'train'] in the archives, ['train', 'val'] are expected" in refused(tmp_path, "cub200")


VAL = "ILSVRC2012_val_{:08d}.JPEG"


def test_images_in_two_splits_are_counted(tmp_path, archives, monkeypatch, capsys):
    def change(content):
        inner = content["train"].members["n02105855.tar"]
        content["val"].members[VAL.format(1)] = inner["n02105855_11.JPEG"]
        inner["n02105855_12.JPEG"] = inner["n02105855_11.JPEG"]

    republish(monkeypatch, archives, "imagenet", change, splits={"train": 8, "val": 4})
    manifest = make(tmp_path, "imagenet")
    said = capsys.readouterr().err
    pair = ["n02105855/n02105855_11.JPEG", "n02105855/ILSVRC2012_val_00000001.JPEG"]
    assert f"1 images of split val are also in split train, the first are {pair[1]} and {pair[0]}" in said
    assert "1 images of split train repeat others of it" in said
    report = json.loads((manifest.parent / "report.json").read_text())
    assert report["shared"] == [{"splits": ["train", "val"], "images": 1, "first": pair}]
    assert report["splits"]["train"]["repeated"] == 1


def test_a_split_within_another_is_an_error(tmp_path, archives, monkeypatch):
    def change(content):
        images = [image for inner in content["train"].members.values() for image in inner.values()]
        content["val"].members = {VAL.format(number): images[number] for number in range(1, 5)}

    republish(monkeypatch, archives, "imagenet", change)
    assert "all images of split val are in split train: the archives are mixed up" in refused(tmp_path, "imagenet")


@pytest.mark.parametrize("layout", ["folder", "shards", "archive"])
def test_images_that_cannot_be_decoded(tmp_path, archives, monkeypatch, layout):
    def change(content):
        whole = picture(3)
        content["val"].members[VAL.format(3)] = whole[: len(whole) // 2]
        content["train"].members["n02105855.tar"]["n02105855_11.JPEG"] = b"this is text"

    republish(monkeypatch, archives, "imagenet", change)
    line = refused(tmp_path, "imagenet", layout)
    assert "set, split train: 1 of 7 images cannot be decoded, the first is n02105855/n02105855_11.JPEG (not a" in line
    assert "the setting unreadable: skip" in line
    manifest = make(tmp_path, "imagenet", layout, unreadable="skip")
    assert [len(open_split(manifest, split)) for split in ("train", "val")] == [6, 3]
    assert [describe(manifest)["splits"][split]["unreadable"] for split in ("train", "val")] == [1, 1]
    report = json.loads((manifest.parent / "report.json").read_text())["splits"]
    assert list(report["val"]["unreadable"]) == ["n02119789/ILSVRC2012_val_00000003.JPEG"]
    assert "runcated" in report["val"]["unreadable"]["n02119789/ILSVRC2012_val_00000003.JPEG"]


def test_impossible_settings(archives):
    from scfs.config.study import parse_study

    def line(**settings):
        with pytest.raises(ScfsError) as error:
            parse_study({"study": "x", "data": {"d": {"source": "official", **settings}}})
        return str(error.value)

    assert "data.d: entry = 'mnist': not among ['aircraft', 'cars'" in line(entry="mnist")
    assert "entry = 'imagenet-1percent': not among" in line(entry="imagenet-1percent")
    assert "layout = 'archive': the images do not lie uncompressed in a tar" in line(entry="cifar10", layout="archive")
    assert "layout = 'shards': voc has boxes" in line(entry="voc", layout="shards")
    listed = {"file": "x", "sha256": 64 * "0", "url": "x"}
    assert "class_list: for the entry imagenet, not for cub200" in line(entry="cub200", class_list=listed)


# --- disks ---


@contextmanager
def no_file_larger_than(number):
    """What a full disk does: writing raises OSError (here EFBIG) in the middle of a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (number, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("entry, layout", [("imagenet", "folder"), ("imagenet", "shards"), ("coco", "folder")])
def test_no_room(tmp_path, archives, monkeypatch, entry, layout):
    real = shutil.disk_usage
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, 100))
    line = refused(tmp_path, entry, layout)
    assert "GiB have to be written, 0.00 GiB are free" in line
    assert ("layout: archive takes nothing" in line) == (entry == "imagenet")
    monkeypatch.setattr(shutil, "disk_usage", real)
    make(tmp_path, entry, layout)


@pytest.mark.parametrize("layout", ["folder", "shards"])
@pytest.mark.parametrize("size", [100, 900, 4000])
def test_a_disk_that_fills_up(tmp_path, archives, layout, size):
    manifest = make(tmp_path, "imagenet", layout, name="whole")
    with no_file_larger_than(size):
        assert "could not be written: File too large" in refused(tmp_path, "imagenet", layout)
    done = files(tmp_path / "data" / f"set-{layout}")
    again = make(tmp_path, "imagenet", layout)
    assert images_of(files(again.parent)) == images_of(files(manifest.parent))
    assert done.items() <= files(again.parent).items()


def images_of(found):
    return {path: content for path, content in found.items() if path.startswith(("images/", "shards/", "files/"))}


# --- kills ---

EVENTS = ("os.rename", "os.mkdir", "os.remove", "shutil.rmtree")


def killed_at(moment, action):
    """Run `action` in a process that dies of SIGKILL when it is about to change the disk for the moment-th time.

    Returns how often it changed it, if it came to its end.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        count = 0

        def watch(event, arguments):
            nonlocal count
            if event in EVENTS or (event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT):
                count += 1
                if count == moment:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)
        try:
            action()
            os.write(writer, str(count).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        said = file.read()
    status = os.waitpid(child, 0)[1]
    assert bool(said) != (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL)
    return int(said) if said else None


@pytest.mark.parametrize(
    "entry, layout",
    [("imagenet", "folder"), ("imagenet", "shards"), ("imagenet", "archive"), ("cub200", "shards"), ("voc", "folder")],
)
def test_killed_at_any_moment(tmp_path, archives, entry, layout):
    """What an uninterrupted call makes, the next one makes of what was left: to the byte, and twice killed as well."""
    (tmp_path / "whole").mkdir()
    whole = make(tmp_path / "whole", entry, layout)
    moments = killed_at(-1, lambda: make(tmp_path / "count", entry, layout))
    assert moments > 20
    draw = random.Random(f"{entry} {layout}")
    for moment in draw.sample(range(1, moments + 1), 7):
        place = tmp_path / f"killed-{moment}"
        prepare = partial(make, place, entry, layout)
        ended = killed_at(moment, prepare)
        assert ended is None or ended < moment  # threads that make one folder count it once or twice
        if killed_at(draw.randrange(1, moments), prepare) is None:
            prepare()
        left = files(place / "data" / f"set-{layout}")
        assert left == files(whole.parent)


@pytest.mark.parametrize("layout", ["folder", "shards"])
def test_killed_in_the_middle_of_a_file(tmp_path, archives, layout):
    """By the kernel (SIGXFSZ), which lets a part of the bytes be written."""
    (tmp_path / "whole").mkdir()
    whole = files(make(tmp_path / "whole", "imagenet", layout).parent)
    for size in (100, 500, 1000, 2000):
        place = tmp_path / f"killed-{size}"
        child = os.fork()
        if not child:
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            with no_file_larger_than(size):
                make(place, "imagenet", layout)
            os._exit(0)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGXFSZ
        assert files(make(place, "imagenet", layout).parent) == whole


@pytest.mark.parametrize("layout", ["folder", "shards"])
def test_killed_while_it_is_made_again(tmp_path, archives, layout):
    whole = make(tmp_path, "imagenet", layout)
    before, target = files(whole.parent), "images" if layout == "folder" else "shards"

    def lose_all():
        shutil.rmtree(whole.parent / target, ignore_errors=True)

    lose_all()
    moments = killed_at(-1, lambda: open_split(whole, "val"))
    for moment in range(1, moments + 1, 2):
        lose_all()
        ended = killed_at(moment, lambda: open_split(whole, "val"))
        assert ended is None or ended < moment  # threads that make one folder count it once or twice
        for split in ("val", "train"):
            open_split(whole, split)
        assert files(whole.parent) == before
