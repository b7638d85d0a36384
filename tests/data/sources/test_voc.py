"""Data sets in VOC devkits: the conversion of boxes, what readers get, and what is refused."""

import hashlib
import json
import multiprocessing
import shutil
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pycocotools.coco import COCO
from tiny_boxes import files, prepare_and_die, write_image, write_voc, xml

from scfs.config.data import Voc
from scfs.data.coco_rle import load_masks
from scfs.data.opening import open_detection_split, open_split
from scfs.data.prepare import prepare
from scfs.data.sources.coco_json import load_coco
from scfs.errors import ScfsError
from scfs.io.locks import folder_lock

TRAIN_2007 = {
    "000012": ((20, 10), [("dog", (1, 1, 20, 10), "0"), ("person", (3, 2, 12, 9), "1")]),
    "000005": ((16, 12), [("person", (2, 3, 2, 3), "0")]),
}
TRAIN_2012 = {"2011_003353": ((30, 24), [("dog", (8.5, 5.70000076293945, 20, 24), None)]), "2012_000001": ((9, 8), [])}
TEST_2007 = {"000001": ((18, 10), [("dog", (0, 1, 18, 11), "0"), ("person", (4, 4, 6, 6), "0")])}


def write_devkits(folder: Path) -> dict[str, list[str]]:
    """Two devkits, as VOC's own lie side by side; the splits' lists."""
    lists = [
        write_voc(folder / "VOCdevkit" / "VOC2007", "trainval", TRAIN_2007),
        write_voc(folder / "VOCdevkit" / "VOC2012", "trainval", TRAIN_2012),
        write_voc(folder / "VOCdevkit" / "VOC2007", "test", TEST_2007),
    ]
    return {"train": [str(lists[0]), str(lists[1])], "test": [str(lists[2])]}


def prepared(folder: Path, splits: dict[str, list[str]], **more: Any) -> Path:
    prepare("voc", Voc(source="voc", splits=splits, **more), folder / "data" / "voc")
    return folder / "data" / "voc" / "manifest.parquet"


def refused(folder: Path, splits: dict[str, list[str]], message: str, **more: Any) -> None:
    with pytest.raises(ScfsError, match=message) as found:
        prepared(folder, splits, **more)
    assert "\n" not in str(found.value)
    assert files(folder / "data") == {}


@pytest.fixture
def splits(tmp_path: Path) -> dict[str, list[str]]:
    return write_devkits(tmp_path)


@pytest.fixture
def manifest(tmp_path: Path, splits: dict[str, list[str]]) -> Path:
    return prepared(tmp_path, splits)


# --- what is taken over ---


def test_lists_of_several_devkits_are_one_split(tmp_path: Path, manifest: Path) -> None:
    images = open_split(manifest, "train")
    assert images.root == tmp_path / "VOCdevkit"
    assert images.paths == [
        "VOC2007/JPEGImages/000005.jpg",
        "VOC2007/JPEGImages/000012.jpg",
        "VOC2012/JPEGImages/2011_003353.jpg",
        "VOC2012/JPEGImages/2012_000001.jpg",
    ]
    assert list(zip(images.widths.tolist(), images.heights.tolist())) == [(16, 12), (20, 10), (30, 24), (9, 8)]
    assert images.labels is None and images.classes == ("dog", "person")
    assert images.read(0) == (images.root / "VOC2007" / "JPEGImages" / "000005.jpg").read_bytes()
    assert open_split(manifest, "test").paths == ["VOC2007/JPEGImages/000001.jpg"]


def test_boxes_by_hand(manifest: Path) -> None:
    """xmin - 1, ymin - 1, xmax, ymax are the edges; COCO has left, top, width and height."""
    content = json.loads(open_detection_split(manifest, "train").annotations.read_text())
    assert content["categories"] == [{"id": 1, "name": "dog"}, {"id": 2, "name": "person"}]
    assert content["images"][1] == {"id": 2, "file_name": "VOC2007/JPEGImages/000012.jpg", "width": 20, "height": 10}
    kept = [(one["image_id"], one["category_id"], one["bbox"], one["difficult"]) for one in content["annotations"]]
    assert kept == [
        (1, 2, [1, 2, 1, 1], 0),
        (2, 1, [0, 0, 20, 10], 0),
        (2, 2, [2, 1, 10, 8], 1),
        (3, 1, [7.5, 4.70000076293945, 12.5, 24 - 4.70000076293945], 0),
    ]
    assert [one["id"] for one in content["annotations"]] == [1, 2, 3, 4]
    assert {(one["iscrowd"], "segmentation" in one) for one in content["annotations"]} == {(0, False)}
    assert [one["area"] for one in content["annotations"]] == [1, 200, 80, 12.5 * (24 - 4.70000076293945)]


def test_a_box_may_leave_its_image_by_a_pixel_and_is_not_clipped(manifest: Path) -> None:
    (dog, _) = load_coco(open_detection_split(manifest, "test").annotations).annotations
    assert dog.bbox == [-1, 0, 19, 11]


def test_pycocotools_reads_what_was_converted(manifest: Path) -> None:
    split = open_detection_split(manifest, "train")
    theirs, ours = COCO(str(split.annotations)), load_coco(split.annotations)
    assert [image["file_name"] for image in theirs.loadImgs(sorted(theirs.imgs))] == split.images.paths
    assert split.digest == ours.digest
    assert tuple(ours.categories.values()) == split.images.classes
    for one in ours.annotations:
        assert (one.bbox, one.area) == (theirs.anns[one.id]["bbox"], theirs.anns[one.id]["area"])
        assert theirs.getAnnIds(imgIds=[one.image_id], areaRng=[one.area - 0.1, one.area + 0.1]).count(one.id) == 1


def test_classes_of_the_study_keep_their_order(tmp_path: Path, splits: dict[str, list[str]]) -> None:
    split = open_detection_split(prepared(tmp_path, splits, classes=["person", "dog"]), "train")
    assert split.images.classes == ("person", "dog")
    content = json.loads(split.annotations.read_text())
    assert content["categories"] == [{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}]
    assert content["annotations"][0]["category_id"] == 1


def test_one_devkit_is_its_own_root(tmp_path: Path, splits: dict[str, list[str]]) -> None:
    del splits["train"]
    images = open_detection_split(prepared(tmp_path, splits), "test").images
    assert (images.root, images.paths) == (tmp_path / "VOCdevkit" / "VOC2007", ["JPEGImages/000001.jpg"])


def test_a_linked_devkit(tmp_path: Path, splits: dict[str, list[str]]) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "VOCdevkit")
    linked = {split: [file.replace("VOCdevkit", "link") for file in lists] for split, lists in splits.items()}
    assert open_detection_split(prepared(tmp_path, linked), "train").images.root == tmp_path / "VOCdevkit"


def test_boxes_alone_are_no_masks(manifest: Path) -> None:
    """What an evaluation of attention then does: no image is scored."""
    assert load_masks(open_detection_split(manifest, "train").annotations) == {}


def test_another_number_of_images_is_a_warning(
    tmp_path: Path, splits: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    prepared(tmp_path, splits, images={"train": 16551, "test": 1})
    said = capsys.readouterr().err
    assert "VOCdevkit: 4 images of split train, 16551 were expected" in said and "split test" not in said


# --- the same bytes, whole or not at all ---


def test_repeating_gives_the_same_bytes(tmp_path: Path, splits: dict[str, list[str]], manifest: Path) -> None:
    before = files(manifest.parent)
    assert set(before) == {"manifest.parquet", "annotations/train.json", "annotations/test.json"}
    prepared(tmp_path, splits)
    assert files(manifest.parent) == before


@pytest.mark.parametrize("before", ["read_annotated_images", "write_text", "write_manifest"])
def test_a_kill_leaves_nothing_half_written(tmp_path: Path, splits: dict[str, list[str]], before: str) -> None:
    folder = tmp_path / "data" / "voc"
    prepare_and_die("voc", Voc(source="voc", splits=splits), folder, before)
    left = files(folder)
    assert set(left) == ({"annotations/train.json", "annotations/test.json"} if before == "write_manifest" else set())
    whole = files(prepared(tmp_path, splits).parent)
    assert left == {name: whole[name] for name in left}


def test_missing_annotations_are_made_again(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(manifest.parent)
    shutil.rmtree(manifest.parent / "annotations")
    digest = open_detection_split(manifest, "test").digest
    assert "annotations/test.json: missing, making it as for" in capsys.readouterr().err
    open_detection_split(manifest, "train")
    assert files(manifest.parent) == before
    capsys.readouterr()
    assert open_detection_split(manifest, "test").digest == digest
    assert "missing" not in capsys.readouterr().err


def test_other_annotations_are_refused(tmp_path: Path, manifest: Path) -> None:
    path = manifest.parent / "annotations" / "train.json"
    path.write_text(path.read_text().replace("[0,0,20,10]", "[0,0,20,9]"))
    with pytest.raises(ScfsError, match=r"train\.json: not the file whose SHA-256 .*: run `scfs prepare voc` again"):
        open_detection_split(manifest, "train")


def test_a_devkit_that_changed_is_refused_when_annotations_are_made_again(tmp_path: Path, manifest: Path) -> None:
    annotation = tmp_path / "VOCdevkit" / "VOC2007" / "Annotations" / "000012.xml"
    annotation.write_text(annotation.read_text().replace("<xmin>3<", "<xmin>4<"))
    open_detection_split(manifest, "train")  # what was converted is still there
    (manifest.parent / "annotations" / "train.json").unlink()
    with pytest.raises(ScfsError, match=r"train\.json: made anew from .*VOCdevkit, it would not be the file whose SHA"):
        open_detection_split(manifest, "train")
    assert not (manifest.parent / "annotations" / "train.json").exists()
    annotation.unlink()
    with pytest.raises(
        ScfsError, match=r"1 of 4 annotations are missing, the first is 'VOC2007/Annotations/000012\.xml'"
    ):
        open_detection_split(manifest, "train")


def _open(manifest: Path) -> None:
    open_detection_split(manifest, "train")


def test_processes_side_by_side_convert_once(manifest: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = files(manifest.parent)
    (manifest.parent / "annotations" / "train.json").unlink()
    openers = [multiprocessing.get_context("fork").Process(target=_open, args=(manifest,)) for _ in range(2)]
    with folder_lock(manifest.parent / "annotations"):
        for opener in openers:
            opener.start()
        time.sleep(0.3)
        assert not (manifest.parent / "annotations" / "train.json").exists()
    for opener in openers:
        opener.join(60)
        assert opener.exitcode == 0
    assert capfd.readouterr().err.count("train.json: missing") == 1
    assert files(manifest.parent) == before


# --- what is refused ---

DOG = "<object><name>dog</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>{}</xmax><ymax>8</ymax></bndbox>{}</object>"
HEAD = "<annotation><size><width>20</width><height>10</height></size>"
BOMB = '<!DOCTYPE a [<!ENTITY x "dog"><!ENTITY y "&x;&x;">]>'
BAD_XML: dict[str, tuple[str, str]] = {
    "cut off": (HEAD, r"not XML: no element found"),
    "no XML": ("dog 1 2 3 4", r"not XML: syntax error"),
    "an encoding nobody knows": ('<?xml version="1.0" encoding="x-none"?><annotation/>', r"not XML: "),
    "an undeclared entity": (f"{HEAD}&x;</annotation>", r"not XML: undefined entity"),
    "entities": (f"{BOMB}{HEAD}<object><name>&y;</name></object></annotation>", r"declares a document type, which may"),
    "an entity from a file": ('<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation>&x;</annotation>',
                              r"declares a document type"),
    "no size": ("<annotation/>", r"size/width is missing"),
    "a width that is no number": (HEAD.replace("20", "wide") + "</annotation>", r"size/width = 'wide': a number is expected"),
    "a width of 0": (HEAD.replace("20", "0") + "</annotation>", r"size/width = 0: a whole number from 1 is expected"),
    "an object without a name": (f"{HEAD}<object/></annotation>", r"object 1: name is missing"),
    "an object without a box": (f"{HEAD}<object><name>dog</name></object></annotation>",
                                r"object 1 \(dog\): bndbox/xmin is missing"),
    "a corner that is no number": (HEAD + DOG.format("nan", "") + "</annotation>",
                                   r"object 1 \(dog\): bndbox/xmax = 'nan': a number is expected"),
    "a box without area": (HEAD + DOG.format("0", "") + "</annotation>",
                           r"object 1 \(dog\): xmin, ymin, xmax, ymax = 1, 2, 0, 8: has no area"),
    "a box outside": (HEAD + DOG.format("22", "") + "</annotation>",
                      r"object 1 \(dog\): xmin, ymin, xmax, ymax = 1, 2, 22, 8: outside its image of 20 x 10 pixels by more than 1"),
    "difficult in words": (HEAD + DOG.format("20", "<difficult>yes</difficult>") + "</annotation>",
                           r"object 1 \(dog\): difficult = 'yes': 0 or 1 is expected"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_XML)
def test_bad_annotations_are_one_line(what: str, tmp_path: Path, splits: dict[str, list[str]]) -> None:
    text, message = BAD_XML[what]
    (tmp_path / "VOCdevkit" / "VOC2007" / "Annotations" / "000012.xml").write_text(text)
    refused(tmp_path, splits, rf"VOC2007/Annotations/000012\.xml: {message}")


def test_a_missing_list(tmp_path: Path, splits: dict[str, list[str]]) -> None:
    Path(splits["test"][0]).unlink()
    refused(tmp_path, splits, r"ImageSets/Main/test\.txt: no such list of images")


def test_a_list_elsewhere(tmp_path: Path, splits: dict[str, list[str]]) -> None:
    shutil.copy(splits["test"][0], tmp_path / "test.txt")
    refused(
        tmp_path,
        {"test": [f"{tmp_path}/test.txt"]},
        r"test\.txt: not in a devkit: a list within a devkit's ImageSets is",
    )


def test_a_split_without_lists(tmp_path: Path, splits: dict[str, list[str]]) -> None:
    refused(tmp_path, {**splits, "val": []}, r"split val: names no lists of images")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n\n", r"names no images"),
        ("000001\n000002 -1\n", r"line 2 = '000002 -1': the name of one image is expected, without a folder"),
        ("../000001\n", r"line 1 = '\.\./000001': the name of one image is expected"),
        (b"\xff\n", r"cannot be read: .*utf-8"),
        ("000001\n000001\n", r"split test names 1 images twice, the first is VOC2007/JPEGImages/000001\.jpg"),
    ],
)
def test_bad_lists(tmp_path: Path, splits: dict[str, list[str]], text: str | bytes, message: str) -> None:
    Path(splits["test"][0]).write_bytes(text.encode() if isinstance(text, str) else text)
    refused(tmp_path, splits, rf"ImageSets/Main/test\.txt: {message}")


def test_the_same_list_twice(tmp_path: Path, splits: dict[str, list[str]]) -> None:
    refused(tmp_path, {"train": [splits["train"][0]] * 2}, r"split train names 2 images twice")


def test_missing_annotations_are_counted(tmp_path: Path, splits: dict[str, list[str]]) -> None:
    shutil.rmtree(tmp_path / "VOCdevkit" / "VOC2012" / "Annotations")
    message = r"VOC2012: no folder Annotations: a list within a devkit's ImageSets is expected: DEVKIT/ImageSets/Main/t"
    refused(tmp_path, splits, message)
    (tmp_path / "VOCdevkit" / "VOC2012" / "Annotations").mkdir()
    message = r"VOCdevkit: 2 of 4 annotations are missing, the first is 'VOC2012/Annotations/2011_003353\.xml'"
    refused(tmp_path, splits, message)


def test_missing_images_are_counted(tmp_path: Path, splits: dict[str, list[str]]) -> None:
    (tmp_path / "VOCdevkit" / "VOC2007" / "JPEGImages" / "000012.jpg").unlink()
    message = (
        r"VOCdevkit: 1 of 4 images that its annotations names are missing, the first is 'VOC2007/JPEGImages/000012\.j"
    )
    refused(tmp_path, splits, message)


def test_images_of_another_size(tmp_path: Path, splits: dict[str, list[str]]) -> None:
    write_image(tmp_path / "VOCdevkit" / "VOC2007" / "JPEGImages" / "000012.jpg", 19, 10)
    refused(tmp_path, splits, r"000012\.jpg \(19 x 10 pixels, annotated as 20 x 10 pixels\)")


def test_unreadable_images(tmp_path: Path, splits: dict[str, list[str]]) -> None:
    (tmp_path / "VOCdevkit" / "VOC2007" / "JPEGImages" / "000012.jpg").write_bytes(b"")
    refused(
        tmp_path, splits, r"1 of 4 images cannot be decoded, the first is VOC2007/JPEGImages/000012\.jpg \(not a JPEG"
    )


def test_an_unknown_class(tmp_path: Path, splits: dict[str, list[str]]) -> None:
    message = r"VOC2007/Annotations/000005\.xml: class 'person': not among \['dog', 'cat'\]"
    refused(tmp_path, splits, message, classes=["dog", "cat"])


def test_a_class_twice(tmp_path: Path, splits: dict[str, list[str]]) -> None:
    refused(tmp_path, splits, r"classes = .*: one appears twice", classes=["dog", "person", "dog"])


def test_a_class_without_instances(
    tmp_path: Path, splits: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    prepared(tmp_path, splits, classes=["dog", "person", "cat"])
    assert "VOCdevkit: split train has no instance of 1 of the 3 classes, the first is 'cat'" in capsys.readouterr().err


def test_a_class_that_one_split_lacks(
    tmp_path: Path, splits: dict[str, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    image = tmp_path / "VOCdevkit" / "VOC2007" / "Annotations" / "000001.xml"
    image.write_text(xml("000001", 18, 10, [("dog", (1, 1, 9, 9), "0"), ("person", (1, 1, 9, 9), "1")]))
    prepared(tmp_path, splits)
    said = "warning: {}: split test has no instance of 1 of the 2 classes, the first is 'person' (crowds and difficult"
    assert said.format(tmp_path / "VOCdevkit") in capsys.readouterr().err
    image.write_text(xml("000001", 18, 10, [("dog", (1, 1, 9, 9), "1")]))
    with pytest.raises(ScfsError, match="split test has no instance of 2 of the 2 classes, the first is 'dog'"):
        prepared(tmp_path, splits)


def test_no_objects_at_all(tmp_path: Path) -> None:
    file = write_voc(tmp_path / "VOC2007", "test", {"000001": ((9, 8), [])})
    refused(tmp_path, {"test": [str(file)]}, r"VOC2007: no annotation has an object")


def test_the_manifest_names_the_converted_files(manifest: Path) -> None:
    for split, entry in json.loads(pq.read_table(manifest).schema.metadata[b"scfs"])["splits"].items():
        content = (manifest.parent / "annotations" / f"{split}.json").read_bytes()
        assert entry["boxes"] == {"file": f"annotations/{split}.json", "sha256": hashlib.sha256(content).hexdigest()}


# --- Detectron2 ---


@pytest.mark.detectron2
def test_detectron2_reads_the_same(tmp_path: Path, manifest: Path) -> None:
    """Its reader of devkits and its reader of COCO JSON find the same objects in the devkit and in what we made of it."""
    import scfs.detection.compat  # noqa: F401  # isort: skip

    from detectron2.data.datasets.coco import load_coco_json
    from detectron2.data.datasets.pascal_voc import load_voc_instances
    from detectron2.structures import BoxMode

    opened = open_detection_split(manifest, "train")
    records = load_coco_json(str(opened.annotations), str(opened.images.root), "tiny_voc_source")
    ours = {Path(record["file_name"]): record for record in records}
    seen = 0
    for year in ("VOC2007", "VOC2012"):
        for record in load_voc_instances(str(tmp_path / "VOCdevkit" / year), "trainval", ["dog", "person"]):
            mine = ours[Path(record["file_name"])]
            assert (mine["width"], mine["height"]) == (record["width"], record["height"])
            assert len(mine["annotations"]) == len(record["annotations"])
            for one, other in zip(mine["annotations"], record["annotations"]):
                assert one["category_id"] == other["category_id"]
                edges = BoxMode.convert(one["bbox"], one["bbox_mode"], other["bbox_mode"])
                assert edges == pytest.approx(other["bbox"], rel=1e-12)
            seen += 1
    assert seen == len(ours) == 4
