"""Data sets in COCO's format: what `prepare` takes over, what readers get, and what is refused."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from pycocotools import mask as rle
from pycocotools.coco import COCO
from tiny_boxes import CONTENT, CROWD, files, prepare_and_die, write_coco, write_image

from scfs.config.data import Coco, ImageFolders
from scfs.config.scenes import GarmentScenes
from scfs.data.opening import open_detection_split, open_split
from scfs.data.prepare import prepare
from scfs.data.sources.coco_json import load_coco
from scfs.errors import ScfsError
from scfs.io import progress


def config_of(**splits: Any) -> Coco:
    images = splits.pop("images", {})
    return Coco(source="coco", splits=splits, images=images)


def prepared(folder: Path, config: Coco) -> Path:
    prepare("mine", config, folder / "data" / "mine")
    return folder / "data" / "mine" / "manifest.parquet"


def refused(folder: Path, config: Coco, message: str) -> None:
    with pytest.raises(ScfsError, match=message) as found:
        prepared(folder, config)
    assert "\n" not in str(found.value)
    assert files(folder / "data") == {}


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return prepared(tmp_path, config_of(train=write_coco(tmp_path)))


# --- what is taken over ---


def test_the_manifest_lists_the_annotated_images_by_path(tmp_path: Path, manifest: Path) -> None:
    table = pq.read_table(manifest)
    assert table["path"].to_pylist() == ["deep/a.jpg", "empty.jpg", "z.png"]
    assert list(zip(table["width"].to_pylist(), table["height"].to_pylist())) == [(16, 12), (9, 8), (20, 10)]
    assert table["label"].to_pylist() == [None] * 3 and set(table["split"].to_pylist()) == {"train"}
    content = [(tmp_path / "train" / path).read_bytes() for path in table["path"].to_pylist()]
    assert table["sha256"].to_pylist() == [hashlib.sha256(one).digest() for one in content]
    entry = json.loads(table.schema.metadata[b"scfs"])["splits"]["train"]
    json_hash = hashlib.sha256((tmp_path / "train.json").read_bytes()).hexdigest()
    assert entry["boxes"] == {"file": str(tmp_path / "train.json"), "sha256": json_hash}
    assert entry["root"] == str(tmp_path / "train")


def test_images_alone_are_like_any_other_set(tmp_path: Path, manifest: Path) -> None:
    images = open_split(manifest, "train")
    assert images.classes == ("cat", "dog"), "by the ids of the categories, 3 and 18"
    assert images.labels is None and len(images) == 3
    assert images.read(1) == (tmp_path / "train" / "empty.jpg").read_bytes()


def test_the_annotations_are_the_file_of_the_study(tmp_path: Path, manifest: Path) -> None:
    split = open_detection_split(manifest, "train")
    assert split.annotations == tmp_path / "train.json"
    assert split.digest == hashlib.sha256(split.annotations.read_bytes()).hexdigest()
    names = [image["file_name"] for image in json.loads(split.annotations.read_text())["images"]]
    assert sorted(names) == split.images.paths


def test_what_is_read_is_what_pycocotools_reads(tmp_path: Path) -> None:
    ours = load_coco(Path(write_coco(tmp_path).annotations))
    theirs = COCO(str(tmp_path / "train.json"))
    assert [image._asdict() for image in ours.images] == [
        {key: theirs.imgs[image.id][key] for key in ("id", "file_name", "width", "height")} for image in ours.images
    ]
    assert {category: theirs.cats[category]["name"] for category in theirs.getCatIds()} == ours.categories
    assert len(ours.annotations) == len(theirs.anns) == 3
    for one in ours.annotations:
        other = theirs.anns[one.id]
        assert one.bbox == other["bbox"] and one.area == other["area"] and one.iscrowd == other["iscrowd"]
        assert (one.image_id, one.category_id) == (other["image_id"], other["category_id"])
    assert theirs.annToMask(theirs.anns[4]).sum() == 10, "a sound run length is one that pycocotools can draw"


def test_compressed_run_lengths_are_masks_too(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        encoded = rle.frPyObjects(CROWD, 10, 20)
        content["annotations"][2]["segmentation"] = {"size": [10, 20], "counts": encoded["counts"].decode()}

    file = load_coco(Path(write_coco(tmp_path, change=change).annotations))
    assert file.annotations[2].mask is not None and file.annotations[2].mask.size == (10, 20)
    assert COCO(str(tmp_path / "train.json")).annToMask(json.loads(file.path.read_text())["annotations"][2]).sum() == 10


def test_boxes_without_masks_are_fine(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        for number, one in enumerate(content["annotations"]):
            one.pop("segmentation") if number else one.update(segmentation=[])

    open_detection_split(prepared(tmp_path, config_of(train=write_coco(tmp_path, change=change))), "train")


def test_a_box_may_leave_its_image_by_a_pixel_and_is_not_clipped(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["annotations"][0]["bbox"] = [-1, -0.25, 22, 10.5]

    config = config_of(train=write_coco(tmp_path, change=change))
    path = open_detection_split(prepared(tmp_path, config), "train").annotations
    assert json.loads(path.read_text())["annotations"][0]["bbox"] == [-1, -0.25, 22, 10.5]
    assert load_coco(path).annotations[0].bbox == [-1, -0.25, 22, 10.5]


def test_lines_like_those_of_train2017_are_said_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its annotation 918, moved into a small image: a polygon of no height (github.com/cocodataset/cocoapi, #355)."""

    def change(content: dict[str, Any]) -> None:
        line = {
            "area": 0.0,
            "bbox": [6.65, 8.33, 1.03, 0.0],
            "id": 918,
            "image_id": 30,
            "category_id": 18,
            "iscrowd": 0,
        }
        content["annotations"] += [{**line, "segmentation": [[6.65, 8.33, 6.65, 8.33, 7.68, 8.33, 7.68, 8.33]]}]

    prepared(tmp_path, config_of(train=write_coco(tmp_path, change=change)))
    assert "1 boxes of split train have no area, the first is of annotation 918" in capsys.readouterr().err


def test_splits_of_one_data_set(tmp_path: Path) -> None:
    manifest = prepared(tmp_path, config_of(train=write_coco(tmp_path), val=write_coco(tmp_path, "val")))
    assert open_detection_split(manifest, "val").annotations == tmp_path / "val.json"
    assert open_detection_split(manifest, "train").images.root == tmp_path / "train"


def test_another_number_of_images_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepared(tmp_path, config_of(train=write_coco(tmp_path), images={"train": 118287}))
    assert "train: 3 images of split train, 118287 were expected" in capsys.readouterr().err


def test_reading_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PLAIN_LINE_SECONDS", 0.0)
    prepared(tmp_path, config_of(train=write_coco(tmp_path)))
    shown = capsys.readouterr().err
    assert f"{tmp_path}/train.json: reading" in shown
    assert re.search(rf"^{tmp_path}/train\.json: \d/3 annotations, ", shown, re.MULTILINE)
    assert re.search(rf"^{tmp_path}/train: \d/3 images, ", shown, re.MULTILINE)


# --- the same bytes, whole or not at all ---


def test_repeating_gives_the_same_bytes(tmp_path: Path) -> None:
    config = config_of(train=write_coco(tmp_path))
    before = prepared(tmp_path, config).read_bytes()
    assert prepared(tmp_path, config).read_bytes() == before


def test_a_kill_leaves_nothing_half_written(tmp_path: Path) -> None:
    config = config_of(train=write_coco(tmp_path))
    prepare_and_die("mine", config, tmp_path / "data" / "mine", before="write_manifest")
    assert files(tmp_path / "data") == {}
    assert len(open_detection_split(prepared(tmp_path, config), "train").images) == 3


def test_a_failure_leaves_the_manifest_that_was_there(tmp_path: Path) -> None:
    config = config_of(train=write_coco(tmp_path))
    manifest = prepared(tmp_path, config)
    before = manifest.read_bytes()
    (tmp_path / "train" / "z.png").unlink()
    with pytest.raises(ScfsError, match="1 of 3 images"):
        prepared(tmp_path, config)
    assert manifest.read_bytes() == before


def test_annotations_that_changed_since(tmp_path: Path, manifest: Path) -> None:
    write_coco(tmp_path, change=lambda content: content["annotations"].pop())
    with pytest.raises(ScfsError, match=r"train\.json: not the file whose SHA-256 .*run `scfs prepare mine` again"):
        open_detection_split(manifest, "train")
    (tmp_path / "train.json").unlink()
    with pytest.raises(ScfsError, match=r"train\.json: annotations: cannot be read: No such file"):
        open_detection_split(manifest, "train")


# --- other sources ---


def test_folders_have_no_boxes(tmp_path: Path) -> None:
    write_image(tmp_path / "photos" / "a.jpg", 8, 8)
    prepare(
        "photos", ImageFolders(source="folder", splits={"x": str(tmp_path / "photos")}), tmp_path / "data" / "photos"
    )
    with pytest.raises(ScfsError, match="data set photos, split x: has no boxes: its source is 'folder'"):
        open_detection_split(tmp_path / "data" / "photos" / "manifest.parquet", "x")


def test_garment_scenes_are_read_by_the_same_entry(tmp_path: Path) -> None:
    config = GarmentScenes(source="garment-scenes", splits={"x": {"scenes": 3, "garments": (1, 3)}})
    prepare("scenes", config, tmp_path / "scenes")
    split = open_detection_split(tmp_path / "scenes" / "manifest.parquet", "x")
    file = load_coco(split.annotations)
    assert [image.file_name for image in file.images] == split.images.paths
    assert tuple(file.categories.values()) == split.images.classes
    assert split.digest == file.digest
    theirs = COCO(str(split.annotations))
    for one in file.annotations:
        np.testing.assert_array_equal(rle.toBbox(theirs.annToRLE(theirs.anns[one.id])), one.bbox)


# --- what is refused ---


def set_to(*path: Any, value: Any) -> Any:
    """A change of the content: the value at a path."""

    def change(content: Any) -> None:
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = value

    return change


def without(*path: Any) -> Any:
    def change(content: Any) -> None:
        for key in path[:-1]:
            content = content[key]
        del content[path[-1]]

    return change


FIRST = ("annotations", 0)
RLE = {"size": [10, 20], "counts": [200]}
BAD: dict[str, tuple[Any, str]] = {
    "no images": (without("images"), r"not COCO's instances: key 'images' is missing"),
    "no annotations": (without("annotations"), r"not COCO's instances: key 'annotations' is missing"),
    "no categories": (without("categories"), r"not COCO's instances: key 'categories' is missing"),
    "images of another type": (set_to("images", value={}), r"not COCO's instances: images must be a list"),
    "an empty list of images": (set_to("images", value=[]), r"images: none"),
    "an empty list of categories": (set_to("categories", value=[]), r"categories: none"),
    "an image without width": (without("images", 1, "width"), r"images\[1\]: key 'width' is missing"),
    "a width as text": (set_to("images", 1, "width", value="16"), r"images\[1\]: width = '16': Input should be a valid integer"),
    "a height of 0": (set_to("images", 1, "height", value=0), r"images\[1\]: height = 0: Input should be greater than or equal to 1"),
    "an image that is no object": (set_to("images", 1, value=3), r"images\[1\]: not an entry of images"),
    "an annotation among the images": (lambda c: c["images"].append(c["annotations"][0]), r"images\[3\]: not an entry"),
    "a name that is no text": (set_to("images", 0, "file_name", value=1), r"images\[0\]: file_name = 1: Input should be a valid string"),
    "a name outside the folder": (set_to("images", 0, "file_name", value="../z.png"), r"file_name: '\.\./z\.png': a path within"),
    "an absolute name": (set_to("images", 0, "file_name", value="/z.png"), r"file_name: '/z\.png': a path within"),
    "the same name twice": (set_to("images", 0, "file_name", value="empty.jpg"), r"images\[\d\]: file_name = 'empty\.jpg': appears twice"),
    "an image's id twice": (set_to("images", 0, "id", value=7), r"images\[1\]: id = 7: appears twice"),
    "an image's id as text": (set_to("images", 0, "id", value="7"), r"images\[0\]: id = '7': Input should be a valid integer"),
    "an annotation's id twice": (set_to(*FIRST, "id", value=9), r"annotations\[1\]: id = 9: appears twice"),
    "a category's id twice": (set_to("categories", 0, "id", value=3), r"categories\[1\]: id = 3: appears twice"),
    "a category's name twice": (set_to("categories", 0, "name", value="cat"), r"categories\[\d\]: name = 'cat': appears twice"),
    "a category's id as text": (set_to("categories", 0, "id", value="1"), r"categories\[0\]: id = '1': Input should be a valid integer"),
    "a category without a name": (without("categories", 0, "name"), r"categories\[0\]: key 'name' is missing"),
    "an unknown image": (set_to(*FIRST, "image_id", value=31), r"annotation 5: image_id = 31: there is none of this id"),
    "an unknown category": (set_to(*FIRST, "category_id", value=1), r"annotation 5: category_id = 1: there is none"),
    "an annotation without a box": (without(*FIRST, "bbox"), r"annotations\[0\]: key 'bbox' is missing"),
    "iscrowd as text": (set_to(*FIRST, "iscrowd", value="no"), r"annotations\[0\]: iscrowd = 'no': Input should be 0 or 1"),
    "ignore": (set_to(*FIRST, "ignore", value=1), r"annotations\[0\]: ignore.* = 1: Input should be 0"),
    "a box of three": (set_to(*FIRST, "bbox", value=[1, 2, 3]), r"annotations\[0\]: bbox = \[1, 2, 3\]: List should have at least 4 items"),
    "a box of text": (set_to(*FIRST, "bbox", value=["1", 2, 3, 4]), r"annotations\[0\]: bbox\.0 = '1': Input should be a valid number"),
    "an endless box": (set_to(*FIRST, "bbox", value=[1, 2, 10**400, 4]), r"annotations\[0\]: bbox\.2 = 10+ \.\.\. 0+: Input should be"),
    "a negative area": (set_to(*FIRST, "area", value=-1), r"annotations\[0\]: area = -1: Input should be greater than or equal to 0"),
    "a box without width": (set_to(*FIRST, "bbox", value=[1, 2, 0, 4]), r"annotation 5: bbox = \[1, 2, 0, 4\]: has no area"),
    "a box of negative width": (set_to(*FIRST, "bbox", value=[1, 2, -3, 4]), r"bbox = \[1, 2, -3, 4\]: has no area"),
    "a point": (lambda c: c["annotations"][0].update(bbox=[1, 2, 0, 0], area=0), r"bbox = \[1, 2, 0, 0\]: has no area"),
    "over the right border": (set_to(*FIRST, "bbox", value=[10, 0, 13.5, 4]),
                              r"bbox = \[10, 0, 13\.5, 4\]: outside its image of 20 x 10 pixels by more than 3"),
    "over the lower border": (set_to(*FIRST, "bbox", value=[0, 2, 4, 11.01]), r"outside its image of 20 x 10 pixels"),
    "over the left border": (set_to(*FIRST, "bbox", value=[-3.01, 2, 4, 4]), r"outside its image of 20 x 10 pixels"),
    "over the upper border": (set_to(*FIRST, "bbox", value=[1, -3.5, 4, 4]), r"outside its image of 20 x 10 pixels"),
    "a mask as text": (set_to(*FIRST, "segmentation", value="x"), r"segmentation: polygons or run lengths are expected"),
    "a polygon of text": (set_to(*FIRST, "segmentation", value=[["1"] * 6]), r"a polygon must be a list of numbers"),
    "a flat polygon": (set_to(*FIRST, "segmentation", value=[1, 1, 2, 2, 3, 3]), r"a polygon must be a list of numbers"),
    "run lengths of another image": (set_to(*FIRST, "segmentation", value={"size": [20, 10], "counts": [200]}),
                                     r"annotation 5: run lengths for \(20, 10\) pixels: its image has \(10, 20\)"),
    "too few run lengths": (set_to(*FIRST, "segmentation", value={**RLE, "counts": [5, 5]}),
                            r"run lengths of 10 pixels: size = \[10, 20\] has 200"),
    "negative run lengths": (set_to(*FIRST, "segmentation", value={**RLE, "counts": [210, -10]}), r"counts of run lengths"),
    "compressed run lengths of another size": (set_to(*FIRST, "segmentation", value={**RLE, "counts": "11"}), r"run lengths of 2 pixels"),
    "compressed run lengths that are garbage": (set_to(*FIRST, "segmentation", value={**RLE, "counts": "zzzzzz~~~"}),
                                                r"compressed run lengths: 'z' does not belong to compressed run lengths"),
    "compressed run lengths cut off": (set_to(*FIRST, "segmentation", value={**RLE, "counts": "X"}), r"they are cut off"),
    "compressed run lengths below 0": (set_to(*FIRST, "segmentation", value={**RLE, "counts": "O"}), r"counts of run lengths"),
    "a polygon at the end of the world": (set_to(*FIRST, "segmentation", value=[[0, 0, 1e8, 0, 0, 1e8]]), r"numbers below 1,000,000"),
    "a class that no annotation counts for": (lambda c: c.update(annotations=c["annotations"][2:], categories=c["categories"][1:]),
                                              r"split train has no instance of 1 of the 1 classes, the first is 'cat' \(crowds"),
    "run lengths without size": (set_to(*FIRST, "segmentation", value={"counts": [200]}), r"size of run lengths = None"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_bad_annotations_are_one_line(what: str, tmp_path: Path) -> None:
    change, message = BAD[what]
    config = config_of(train=write_coco(tmp_path, change=change))
    refused(tmp_path, config, rf"^{tmp_path}/train\.json: .*{message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"not JSON: Expecting"),
        ('{"images": [NaN]}', r"not JSON: NaN is no number"),
        ("[" * 100_000, r"not JSON: "),
        ("[]", r"not COCO's instances: key 'images' is missing"),
        (b"\xff\xfe", r"not JSON: .*utf-8"),
    ],
)
def test_files_that_are_not_coco(tmp_path: Path, text: str | bytes, message: str) -> None:
    config = config_of(train=write_coco(tmp_path))
    (tmp_path / "train.json").write_bytes(text.encode() if isinstance(text, str) else text)
    refused(tmp_path, config, rf"train\.json: {message}")


def test_a_missing_file(tmp_path: Path) -> None:
    config = config_of(train=write_coco(tmp_path))
    (tmp_path / "train.json").unlink()
    refused(tmp_path, config, r"train\.json: cannot be read: No such file")


def test_a_missing_folder(tmp_path: Path) -> None:
    settings = write_coco(tmp_path).model_copy(update={"images": str(tmp_path / "absent")})
    refused(tmp_path, config_of(train=settings), "absent: no such folder")


def test_missing_images_are_counted(tmp_path: Path) -> None:
    config = config_of(train=write_coco(tmp_path))
    (tmp_path / "train" / "empty.jpg").unlink()
    (tmp_path / "train" / "z.png").unlink()
    refused(tmp_path, config, r"2 of 3 images that train\.json names are missing, the first is 'empty\.jpg'")


def test_images_of_another_size(tmp_path: Path) -> None:
    config = config_of(train=write_coco(tmp_path))
    write_image(tmp_path / "train" / "z.png", 10, 20)
    said = r"z\.png \(10 x 20 pixels, annotated as 20 x 10 pixels\)"
    refused(tmp_path, config, rf"1 of 3 images have another size than train\.json says, the first is {said}")


def test_unreadable_images(tmp_path: Path) -> None:
    config = config_of(train=write_coco(tmp_path))
    (tmp_path / "train" / "z.png").write_bytes(b"not an image")
    refused(
        tmp_path,
        config,
        r"1 of 3 images cannot be decoded, the first is z\.png \(not a JPEG, PNG, WEBP, TIFF or BMP\)$",
    )


def test_splits_must_have_the_same_categories(tmp_path: Path) -> None:
    other = write_coco(tmp_path, "val", change=set_to("categories", 0, "name", value="wolf"))
    message = r"val\.json: categories: not those of .*train\.json: all splits must have the same"
    refused(tmp_path, config_of(train=write_coco(tmp_path), val=other), message)


# --- Detectron2 ---


@pytest.mark.detectron2
def test_detectron2_reads_the_same(tmp_path: Path) -> None:
    import scfs.detection.compat  # noqa: F401  # isort: skip

    from detectron2.data.datasets.coco import load_coco_json

    split = open_detection_split(prepared(tmp_path, config_of(train=write_coco(tmp_path))), "train")
    theirs = load_coco_json(str(split.annotations), str(split.images.root), "tiny_coco_source")
    ours = load_coco(split.annotations)
    classes = list(ours.categories)
    assert [record["image_id"] for record in theirs] == sorted(image.id for image in ours.images)
    for record in theirs:
        image = next(image for image in ours.images if image.id == record["image_id"])
        assert Path(record["file_name"]) == split.images.root / image.file_name
        assert (record["width"], record["height"]) == (image.width, image.height)
        expected = [one for one in ours.annotations if one.image_id == image.id]
        assert [(one["bbox"], one["category_id"], one["iscrowd"]) for one in record["annotations"]] == [
            (one.bbox, classes.index(one.category_id), one.iscrowd) for one in expected
        ]
    assert len(CONTENT["annotations"]) == sum(len(record["annotations"]) for record in theirs)
