"""COCO's JSON as annotation tools export it: what is repaired or left out, and that it is said and counted."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as rle
from pycocotools.coco import COCO
from tiny_boxes import CROWD, files, write_coco

from scfs.config.data import Coco
from scfs.data.coco_rle import decode_counts
from scfs.data.inspection import inspect
from scfs.data.opening import DetectionFiles, open_detection_split
from scfs.data.prepare import prepare
from scfs.data.sources.coco_json import load_coco
from scfs.errors import ScfsError

Change = Callable[[dict[str, Any]], object]


def prepared(folder: Path, **changes: Change | None) -> Path:
    splits = {split: write_coco(folder, split, change) for split, change in changes.items()}
    prepare("mine", Coco(source="coco", splits=splits), folder / "data" / "mine")
    return folder / "data" / "mine" / "manifest.parquet"


def opened(folder: Path, change: Change) -> DetectionFiles:
    split = open_detection_split(prepared(folder, train=change), "train")
    COCO(str(split.annotations))
    assert load_coco(split.annotations).digest == split.digest
    return split


def annotation(number: int, **values: Any) -> Change:
    def change(content: dict[str, Any]) -> None:
        for key, value in values.items():
            if value is None:
                del content["annotations"][number][key]
            else:
                content["annotations"][number][key] = value

    return change


def ids_from_0(content: dict[str, Any]) -> None:
    for number, one in enumerate(content["annotations"]):
        one["id"] = number


def ids_as_fractions(content: dict[str, Any]) -> None:
    for section in ("images", "annotations", "categories"):
        for entry in content[section]:
            entry["id"] = float(entry["id"])
    for one in content["annotations"]:
        one["image_id"], one["category_id"] = float(one["image_id"]), float(one["category_id"])
    content["images"][0]["width"] = 20.0


REPAIRS: dict[str, tuple[Change, str, Callable[[list[dict[str, Any]]], bool]]] = {
    "ids from 0": (ids_from_0, "3 ids of annotations raised by 1", lambda found: [one["id"] for one in found] == [1, 2, 3]),
    "ids as fractions": (ids_as_fractions, "15 ids and sizes such as 1.0 made whole",
                         lambda found: all(type(one["image_id"]) is int for one in found)),
    "no iscrowd": (annotation(0, iscrowd=None), "1 annotations without iscrowd, which is taken for 0",
                   lambda found: found[0]["iscrowd"] == 0),
    "no area": (annotation(0, area=None), "1 annotations without area, which is taken for the box's",
                lambda found: found[0]["area"] == 82.5),
    "an empty polygon": (annotation(0, segmentation=[[]]), "1 annotations without a mask left out, as others",
                         lambda found: [one["id"] for one in found] == [9, 4]),
    "no polygon": (annotation(0, segmentation=[]), "1 annotations without a mask left out", lambda found: len(found) == 2),
    "no mask": (annotation(0, segmentation=None), "1 annotations without a mask left out", lambda found: len(found) == 2),
    "a polygon of two points": (annotation(0, segmentation=[[1, 1, 2, 2]]), "1 polygons without three whole points left out",
                                lambda found: len(found) == 2),
    "one sound polygon of two": (annotation(1, segmentation=[[1, 1, 2, 2, 3], [0, 0, 9, 0, 9, 9]]), "1 polygons without three",
                                 lambda found: found[1]["segmentation"] == [[0, 0, 9, 0, 9, 9]]),
    "a box outside": (annotation(1, bbox=[-2, 3, 20.5, 12]), "1 boxes up to 3 pixels outside their images cut off",
                      lambda found: found[1]["bbox"] == [0, 3, 16, 9]),
}  # fmt: skip


@pytest.mark.parametrize("what", REPAIRS)
def test_exports_are_repaired_and_the_repair_is_said(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, said, is_right = REPAIRS[what]
    split = opened(tmp_path, change)
    assert f"warning: {tmp_path}/train.json: {said}" in capsys.readouterr().err
    assert split.annotations == tmp_path / "data" / "mine" / "annotations" / "train.json"
    assert is_right(json.loads(split.annotations.read_text())["annotations"])


def test_a_byte_order_mark(tmp_path: Path) -> None:
    split = write_coco(tmp_path)
    path = tmp_path / "train.json"
    path.write_text(path.read_text(), encoding="utf-8-sig")
    prepare("mine", Coco(source="coco", splits={"train": split}), tmp_path / "data" / "mine")
    found = open_detection_split(tmp_path / "data" / "mine" / "manifest.parquet", "train")
    assert json.loads(found.annotations.read_text()) == json.loads(path.read_text(encoding="utf-8-sig"))


def test_boxes_with_polygons_that_are_no_masks_are_boxes(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        for one in content["annotations"]:
            one["segmentation"] = [one["bbox"]]

    assert len(load_coco(opened(tmp_path, change).annotations).annotations) == 3


def test_sound_annotations_stay_where_they_are(tmp_path: Path) -> None:
    manifest = prepared(tmp_path, train=None, val=ids_from_0)
    assert set(files(manifest.parent)) == {"manifest.parquet", "annotations/val.json"}
    assert open_detection_split(manifest, "train").annotations == tmp_path / "train.json"


def test_what_cannot_be_repaired_is_said_and_nothing_is_left(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        ids_from_0(content)
        content["annotations"][1]["bbox"] = [5, 5, 40, 4]

    with pytest.raises(ScfsError, match=r"^\S+train\.json: annotation 2: bbox = \[5, 5, 40, 4\]: outside"):
        prepared(tmp_path, train=change)
    assert files(tmp_path / "data") == {}


def test_repaired_annotations_are_made_again(tmp_path: Path) -> None:
    manifest = prepared(tmp_path, train=ids_from_0)
    before = files(manifest.parent)
    made = manifest.parent / "annotations" / "train.json"
    made.unlink()
    open_detection_split(manifest, "train")
    assert files(manifest.parent) == before
    made.unlink()
    write_coco(tmp_path, "train", annotation(0, iscrowd=None))
    with pytest.raises(ScfsError, match=r"made anew from .*train\.json, it would not be the file whose SHA-256"):
        open_detection_split(manifest, "train")


def test_classes_without_instances_are_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The root category of some tools; a class that only one split has."""

    def with_root(content: dict[str, Any]) -> None:
        content["categories"].insert(0, {"id": 0, "name": "animals", "supercategory": "none"})

    def without_cats(content: dict[str, Any]) -> None:
        with_root(content)
        del content["annotations"][1]

    manifest = prepared(tmp_path, train=with_root, val=without_cats)
    said = capsys.readouterr().err
    assert "split train has no instance of 1 of the 3 classes, the first is 'animals'" in said
    assert "split val has no instance of 2 of the 3 classes" in said
    assert open_detection_split(manifest, "val").images.classes == ("animals", "cat", "dog")
    inspect(manifest, "x", tmp_path / "out.json")


# --- compressed run lengths ---


@pytest.mark.parametrize("density", [0.0, 0.02, 0.5, 1.0])
def test_compressed_run_lengths_are_those_of_pycocotools(density: float) -> None:
    mask = np.random.default_rng(3).random((210, 333)) < density
    theirs = rle.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    counts = decode_counts(theirs)
    assert min(counts) >= 0 and sum(counts) == mask.size
    drawn = np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(mask.T.shape).T
    np.testing.assert_array_equal(drawn, mask)


def test_random_text_is_refused_or_has_counts() -> None:
    random = np.random.default_rng(0)
    for _ in range(2000):
        text = "".join(map(chr, random.integers(40, 120, random.integers(0, 12))))
        try:
            assert all(isinstance(count, int) for count in decode_counts(text))
        except ValueError as error:
            assert "run lengths" in str(error) or "cut off" in str(error)


def test_a_compressed_crowd_has_the_area_of_its_box(tmp_path: Path) -> None:
    counts = rle.frPyObjects(CROWD, 10, 20)["counts"].decode()
    change = annotation(2, area=None, segmentation={"size": [10, 20], "counts": counts})
    assert load_coco(opened(tmp_path, change).annotations).annotations[2].area == 10
