"""The catalogue of data sets: what torchvision knows too, what the archives add up to, and bad entries."""

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from torchvision import datasets

from scfs.config import official_sets as module
from scfs.config.base import parse
from scfs.config.official_sets import Archive, Catalogue, catalogue, official_set, required_archives
from scfs.errors import ScfsError

SETS = catalogue()
ARCHIVES = [(name, role, archive) for name, official in SETS.items() for role, archive in official.archives.items()]


def test_hashes_are_those_of_torchvision() -> None:
    pets = dict(datasets.OxfordIIITPet._RESOURCES)
    assert {archive.urls[0]: archive.md5 for archive in SETS["pets"].archives.values()} == pets
    fashion = dict(datasets.FashionMNIST.resources)
    assert {archive.file: archive.md5 for archive in SETS["fashion_mnist"].archives.values()} == fashion
    for archive in SETS["fashion_mnist"].archives.values():
        assert archive.urls[0] == datasets.FashionMNIST.mirrors[0] + archive.file
    known = datasets.imagenet.ARCHIVE_META
    assert {role: (archive.file, archive.md5) for role, archive in SETS["imagenet"].archives.items()} == known
    for role, year in (("trainval2007", "2007"), ("test2007", "2007-test"), ("trainval2012", "2012")):
        there, archive = datasets.voc.DATASET_YEAR_DICT[year], SETS["voc"].archives[role]
        assert (archive.urls[0], archive.file, archive.md5) == (there["url"], there["filename"], there["md5"])
    assert SETS["aircraft"].archives["images"].urls == (datasets.FGVCAircraft._URL,)
    for name, theirs in (("cifar10", datasets.CIFAR10), ("cifar100", datasets.CIFAR100)):  # the Python version there
        assert SETS[name].archives["binary"].urls == (theirs.url.replace("python", "binary"),)
        assert SETS[name].archives["binary"].md5 != theirs.tgz_md5


def test_numbers_of_images() -> None:
    """Against what the sets' papers say of all their images together."""
    total = {name: sum(official.splits.values()) for name, official in SETS.items()}
    assert total["cub200"] == 11_788 and total["cars"] == 16_185 and total["aircraft"] == 10_000
    assert total["pets"] == 7_349 and SETS["voc"].splits["trainval2007"] + SETS["voc"].splits["test2007"] == 9_963
    assert total["cifar10"] == total["cifar100"] == 60_000 and total["fashion_mnist"] == 70_000
    assert SETS["imagenet"].splits == {"train": 1_281_167, "val": 50_000}
    # 1% and 10% of the images of each of 1,000 classes, rounded
    assert abs(SETS["imagenet-1percent"].splits["train"] - 12_811.67) < 500
    assert abs(SETS["imagenet-10percent"].splits["train"] - 128_116.7) < 500
    assert SETS["imagenet100"].splits["val"] == 50 * SETS["imagenet100"].classes
    assert SETS["aircraft"].splits["train"] + SETS["aircraft"].splits["val"] == 6_667
    assert SETS["voc"].classes == 20 and SETS["coco"].classes == 80


def test_the_shipped_catalogue() -> None:
    for name, role, archive in ARCHIVES:
        assert archive.sha256 is not None, (name, role)
        assert len({archive.md5, archive.sha256}) == 2
        for url in archive.urls:
            assert url.endswith(f"/{archive.file}") or name == "imagenet100", (name, role, url)
    hashes = [archive.sha256 for _, _, archive in ARCHIVES] + [v.sha256 for _, _, a in ARCHIVES for v in a.also]
    assert len(set(hashes)) == len(hashes)
    assert all(SETS["imagenet"].archives[role].urls == () for role in SETS["imagenet"].archives)  # terms to agree to
    assert all(SETS[name].metric == "mean_per_class" for name in ("aircraft", "pets"))
    assert all(SETS[name].metric == "top1" for name in ("imagenet", "cifar10", "cifar100", "cub200", "cars"))


def test_every_null_has_a_reason() -> None:
    """A hash or size that is not known says why, on its line."""
    lines = Path(module.__file__).with_name("official_sets.yaml").read_text(encoding="utf-8").splitlines()
    nulls = [line for line in lines if re.match(r"\s+\w+: null", line)]
    assert nulls and all("# " in line for line in nulls)


def test_the_studies_take_every_set_of_the_paper_from_the_catalogue() -> None:
    root = Path(module.__file__).parents[2]
    study = yaml.safe_load((root / "config/paper/params.yaml").read_text())
    entries = {data["entry"] for data in study["data"].values() if data["source"] == "official"}
    assert entries == {"imagenet", "coco", "voc", "cifar10", "cifar100", "cub200", "cars", "aircraft", "pets"}
    ablations = yaml.safe_load((root / "config/imagenet100/params.yaml").read_text())
    assert ablations["data"]["imagenet100"]["entry"] == "imagenet100"


@pytest.mark.parametrize(("evaluation", "entry"), [("semi-1", "imagenet-1percent"), ("semi-10", "imagenet-10percent")])
def test_the_study_and_the_catalogue_mean_the_same_lists_of_labelled_images(evaluation: str, entry: str) -> None:
    study = yaml.safe_load((Path(module.__file__).parents[2] / "config/paper/params.yaml").read_text())
    (item,) = [item for item in required_archives(entry, Path("datasets/archives")) if item.role == "image_list"]
    labels = study["evaluate"][evaluation]["labels"]
    assert labels["file"] == item.path.as_posix() and labels["sha256"] == item.archive.sha256


def test_archives_of_a_set_that_uses_another() -> None:
    items = {item.role: item.path.as_posix() for item in required_archives("imagenet100", Path("a"))}
    assert items == {
        "train": "a/imagenet/ILSVRC2012_img_train.tar",
        "val": "a/imagenet/ILSVRC2012_img_val.tar",
        "devkit": "a/imagenet/ILSVRC2012_devkit_t12.tar.gz",
        "class_list": "a/imagenet100/imagenet100_classes.txt",
    }
    with pytest.raises(ScfsError, match=r"official_sets\.yaml: no data set 'mnist': not among \['aircraft', 'cars'"):
        official_set("mnist")
    with pytest.raises(ScfsError, match="no data set 'mnist'"):
        list(required_archives("mnist", Path("a")))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def archive(**values: Any) -> Archive:
    base = {"file": "set.tar", "size": 5, "md5": None, "sha256": sha256(b"right"), "urls": ["file:///set.tar"]}
    made: Archive = parse(Archive, base | values, "test")
    return made


def test_what_a_file_is_compared_with(tmp_path: Path) -> None:
    path = tmp_path / "set.tar"
    wrong_md5 = "0" * 32
    also = [{"size": 6, "sha256": sha256(b"better")}, {"size": 5, "sha256": sha256(b"equal")}]
    for content, values in (
        (b"right", {}),
        (b"right", {"md5": wrong_md5}),  # the better hash counts
        (b"right", {"sha256": None, "md5": hashlib.md5(b"right").hexdigest()}),
        (b"any", {"size": None, "sha256": None}),
        (b"better", {"also": also}),
        (b"equal", {"also": also}),
    ):
        path.write_bytes(content)
        archive(**values).check(path)
    for content, values, message in (
        (b"wrong", {}, "its SHA-256 is .*, the catalogue says"),
        (b"right", {"sha256": None, "md5": wrong_md5}, "its MD5 is .*, the catalogue says 0{32}"),
        (b"rights", {}, "it has 6 bytes, the catalogue says 5"),
        (b"others", {"also": also}, "it has 6 bytes, the catalogue says 5"),
    ):
        path.write_bytes(content)
        with pytest.raises(ScfsError, match=message):
            archive(**values).check(path)


def official(**values: Any) -> dict[str, Any]:
    base = {"title": "A", "task": "classification", "metric": "top1", "classes": 2, "splits": {"train": 3}}
    return base | {"licence": "MIT", "citation": "B", "archives": {"all": archive().model_dump()}} | values


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ({"a": official(archives={"all": archive().model_dump() | {"urls": []}})}, "at least one is needed"),
        ({"a": official(archives={"all": archive().model_dump() | {"md5": "abc"}})}, r"sets\.a\.archives\.all\.md5"),
        ({"a": official(archives={"all": archive().model_dump() | {"file": "../x"}})}, r"archives\.all\.file"),
        ({"a": official(archives={"all": archive().model_dump() | {"urls": ["ftp://x/y"]}})}, r"archives\.all\.urls"),
        ({"a": official(archives={"b": archive().model_dump(), "c": archive().model_dump()})}, "file must not repeat"),
        ({"a": official(metric=None)}, "metric: for a classification"),
        ({"a": official(task="detection")}, "metric: for a classification"),
        ({"a": official(uses=["b"])}, r"no such sets: \['b'\]"),
        ({"a": official(), "b": official(uses=["a"])}, "roles must not repeat"),
        ({"A": official()}, "A"),
        ({"a": official(licence=None)}, r"sets\.a\.licence"),
        ({"a": official(year=2)}, "unknown key 'sets.a.year'"),
    ],
)
def test_the_catalogue_is_strict(sets: dict[str, Any], message: str) -> None:
    with pytest.raises(ScfsError, match=message):
        parse(Catalogue, {"sets": sets}, "catalogue.yaml")
