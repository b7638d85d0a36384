"""Which images have labels, and which of them choose a rate."""

import hashlib
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from tuned import small

from scfs import paths
from scfs.config.data import ImageFolders
from scfs.data.image_set import ROWS, ImageSet
from scfs.data.opening import open_split
from scfs.data.prepare import prepare
from scfs.errors import ScfsError
from scfs.evaluation import result
from scfs.evaluation.finetune.labelled import LabelledData, labelled_data
from scfs.evaluation.subsets import LABELLED, stratified_subset, validation_split
from scfs.views.workers import read_image

URL = "https://example.org/list.txt"
GRID: dict[str, Any] = {"lr": [0.1, 0.2]}


@pytest.fixture
def manifest(workplace: Path) -> Path:
    return paths.manifest("colours")


def opened(manifest: Path, **changes: Any) -> LabelledData:
    return labelled_data(small(**changes), manifest)


def counts(images: ImageSet) -> list[int]:
    return np.bincount(images.require_labels(), minlength=3).tolist()


def names(images: ImageSet) -> list[str]:
    return [Path(path).parent.name + "/" + Path(path).name for path in images.paths]


def test_all_labels_and_a_share_of_each_class_to_choose_on(manifest: Path) -> None:
    data = opened(manifest, validation=0.25, **GRID)
    train = open_split(manifest, "train")
    assert data.whole.digest == train.digest and counts(data.whole) == [14, 14, 14]
    assert data.validation is not None and counts(data.validation) == [4, 4, 4]  # 3.5, half to even
    assert counts(data.fit) == [10, 10, 10]
    assert sorted(names(data.fit) + names(data.validation)) == sorted(names(train))
    assert data.validation.read(0) == train.read(train.paths.index(data.validation.paths[0]))
    again, other = (opened(manifest, validation=0.25, seed=seed, **GRID).validation for seed in (0, 1))
    assert again is not None and other is not None
    assert again.digest == data.validation.digest != other.digest and names(other) != names(again)


def test_without_a_grid_nothing_is_validation_split(manifest: Path) -> None:
    data = opened(manifest)
    assert data.validation is None and data.whole is data.fit and counts(data.fit) == [14, 14, 14]


@pytest.mark.parametrize(("share", "number"), [(0.01, 1), (0.1, 1), (0.2, 3), (0.5, 7), (0.96, 13)])
def test_a_share_of_labels_is_balanced(manifest: Path, share: float, number: int) -> None:
    labelled, other = (opened(manifest, labels={"share": share, "seed": seed}).whole for seed in (0, 5))
    assert counts(labelled) == counts(other) == [number] * 3
    assert len(set(names(labelled))) == 3 * number
    assert names(labelled) == sorted(names(labelled))  # the manifest's order
    assert (names(labelled) != names(other)) and labelled.digest != other.digest


def test_unequal_classes_keep_their_proportion() -> None:
    labels = np.repeat([0, 1, 2], [40, 10, 2])
    rows = [{"path": "", "width": 1, "height": 1, "label": label, "sha256": bytes(32)} for label in labels.tolist()]
    images = ImageSet.of("set", "train", Path(), ("a", "b", "c"), pa.Table.from_pylist(rows, ROWS))
    assert Counter(labels[stratified_subset(images, 0.1, 0, LABELLED)].tolist()) == {0: 4, 1: 1, 2: 1}
    kept = Counter(labels[~stratified_subset(images, 0.9, 0, LABELLED)].tolist())
    assert kept == {0: 4, 1: 1}  # 1.8 of 2 is both
    with pytest.raises(
        ScfsError, match=r"set, split train: validation = 0.9: takes all 2 labelled images of class 'c'"
    ):
        validation_split(images, 0.9, 0)


@pytest.fixture(scope="module")
def flowers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifest of three splits; each image's name says its class and number."""
    folder = tmp_path_factory.mktemp("flowers")
    for split, numbers in {"train": (5, 4, 3), "choose": (2, 1, 1), "test": (1, 1, 2)}.items():
        for name, number in zip(("n01", "n02", "n03"), numbers, strict=True):
            (folder / split / name).mkdir(parents=True)
            for index in range(number):
                Image.new("RGB", (40, 36), (index, 0, 0)).save(folder / split / name / f"{name}_{index}.png")
    splits = {split: str(folder / split) for split in ("train", "choose", "test")}
    prepare("flowers", ImageFolders(source="folder", splits=splits), folder / "flowers")
    return folder / "flowers" / "manifest.parquet"


@pytest.mark.parametrize("rates", [[0.1], [0.1, 0.2]])
def test_another_split_chooses_and_is_trained_on_in_the_end(flowers: Path, rates: list[float]) -> None:
    data = opened(flowers, validation="choose", test="test", lr=rates)
    assert counts(data.fit) == [5, 4, 3] and data.validation is not None and counts(data.validation) == [2, 1, 1]
    assert data.whole.split == "train+choose" and counts(data.whole) == [7, 5, 4]
    for row in (0, 11, 12, 15):
        source, own = (data.fit, row) if row < 12 else (data.validation, row - 12)
        assert data.whole.read(row) == source.read(own) and names(data.whole)[row] == names(source)[own]
        assert read_image(data.whole, row).shape == (36, 40, 3)
    assert len({images.digest for images in (data.whole, data.fit, data.validation, data.test)}) == 4


def listed(folder: Path, *lines: str) -> dict[str, str]:
    text = "".join(f"{line}\n" for line in lines)
    (folder / "list.txt").write_text(text)
    return {"file": str(folder / "list.txt"), "sha256": hashlib.sha256(text.encode()).hexdigest(), "url": URL}


def test_a_published_list_names_the_labelled_images(flowers: Path, tmp_path: Path) -> None:
    labels = listed(tmp_path, "n03_2.png", "n01_4.png", "", "  n02_0.png", "n01_0.png", "n01_4.png")
    data = opened(flowers, labels=labels, test="test")
    assert names(data.whole) == ["n01/n01_0.png", "n01/n01_4.png", "n02/n02_0.png", "n03/n03_2.png"]
    assert data.whole.require_labels().tolist() == [0, 0, 1, 2]


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        (("n01_0.png", "n02_0.png", "n03_9.png", "n04_1.png"), r"2 of its 4 images are not in data set flowers, split train: n03_9.png, n04_1.png"),
        (("n01_0.png", "n03_0.png"), r"no image of 1 of the 3 classes: n02"),
        ((), r"0 of its 0 images"),
    ],
)  # fmt: skip
def test_a_list_that_does_not_fit(flowers: Path, tmp_path: Path, lines: tuple[str, ...], line: str) -> None:
    with pytest.raises(ScfsError, match=rf"list\.txt: {line}"):
        opened(flowers, labels=listed(tmp_path, *lines), test="test")


def test_a_list_that_is_another_one_or_not_there(flowers: Path, tmp_path: Path) -> None:
    labels = listed(tmp_path, "n01_0.png")
    (tmp_path / "list.txt").write_text("n01_1.png\n")
    with pytest.raises(ScfsError, match=rf"not the list of labelled images of {URL}: its SHA-256 is \w+, wanted"):
        opened(flowers, labels=labels, test="test")
    (tmp_path / "list.txt").unlink()
    with pytest.raises(ScfsError, match=rf"list of labelled images cannot be read: .*: get it from {URL}"):
        opened(flowers, labels=labels, test="test")


def test_a_name_that_two_images_have(manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(ScfsError, match=r"list\.txt: 3\.png: is the name of both blue/3\.png and green/3\.png"):
        opened(manifest, labels=listed(tmp_path, "3.png"))


def test_sets_without_labels_or_without_a_class(manifest: Path, flowers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for changes in ({"train": "unlabelled"}, {"test": "unlabelled"}, {"validation": "unlabelled"}):
        with pytest.raises(ScfsError, match=r"colours, split unlabelled: has no labels"):
            opened(manifest, **changes)
    open_split = result.open_split
    for gone, changes in (("test", {}), ("choose", {"validation": "choose"}), ("train", {})):

        def without_a_class(path: Path, split: str, gone: str = gone) -> ImageSet:
            images = open_split(path, split)
            return images.subset(np.flatnonzero(images.require_labels() != 1)) if split == gone else images

        monkeypatch.setattr(result, "open_split", without_a_class)
        with pytest.raises(ScfsError, match=rf"flowers, split {gone}: no image of 1 of the 3 classes: n02"):
            opened(flowers, test="test", **changes)


def test_splits_of_other_classes_are_refused(flowers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_split = result.open_split

    def with_another_class(path: Path, split: str) -> ImageSet:
        images = open_split(path, split)
        return replace(images, classes=("n01", "n02", "n04")) if split == "test" else images

    monkeypatch.setattr(result, "open_split", with_another_class)
    with pytest.raises(ScfsError, match=r"splits 'train' and 'test' must have the same classes: .*n03.*n04"):
        opened(flowers, test="test")


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"epochs": 3}, "give either steps or epochs"),
        ({"steps": None}, "give either steps or epochs"),
        ({"accumulate": 5}, "accumulate = 5: does not divide batch = 12"),
        ({"accumulate": 12}, "BatchNorm needs more than one image"),
        ({"lr": [0.1, 0.1]}, "lr must not repeat"),
        ({"weight_decay": [0, 0.0]}, "weight_decay must not repeat"),
        ({"validation": "val"}, "validation = 'val': must be another split"),
        ({"scale": [0.5, 0.2]}, "low <= high"),
    ],
)
def test_protocols_that_contradict_themselves(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        small(**changes)
