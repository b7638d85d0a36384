"""Average precision: perfect detections, cases by hand, and what Detectron2's evaluators say of an original data set."""

import json
import math
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask
import pytest
import torch

import scfs.detection.compat  # isort: skip  # noqa: F401

from detectron2.data import MetadataCatalog
from detectron2.data.build import filter_images_with_only_crowd_annotations
from detectron2.data.datasets.pascal_voc import load_voc_instances
from detectron2.evaluation import PascalVOCDetectionEvaluator
from detectron2.structures import Boxes, Instances

from scfs.data.coco_rle import encode_mask
from scfs.data.image_set import ROWS, ImageSet
from scfs.data.opening import DetectionFiles, open_detection_split
from scfs.detection.data import DetectionSplit, read_split
from scfs.detection.metrics import CocoMetric, VocMetric, sampled, write_devkit
from scfs.errors import ScfsError
from scfs.io.results import sha256_of

pytestmark = pytest.mark.detectron2

SIDE = 20


def mask_of(box: list[float]) -> np.ndarray:
    left, top, width, height = (round(value) for value in box)
    mask = np.zeros((SIDE, SIDE), bool)
    mask[top : top + height, left : left + width] = True
    return mask


def written(folder: Path, coco: dict[str, Any]) -> DetectionFiles:
    path = folder / "val.json"
    path.write_text(json.dumps(coco))
    images = ImageSet.of("some", "val", folder, (), ROWS.empty_table())
    return DetectionFiles(images, path, sha256_of(path))


def coco_of(images: int, objects: list[dict[str, Any]], categories: dict[int, str]) -> dict[str, Any]:
    """COCO JSON of square images; objects say image_id, category_id, bbox and what is special about them."""
    return {
        "info": {},
        "images": [
            {"id": number, "file_name": f"{number}.png", "width": SIDE, "height": SIDE}
            for number in range(1, images + 1)
        ],
        "annotations": [
            {
                "id": number,
                "iscrowd": 0,
                "area": item["bbox"][2] * item["bbox"][3],
                "segmentation": encode_mask(mask_of(item["bbox"])),
                **item,
            }
            for number, item in enumerate(objects, start=1)
        ],
        "categories": [{"id": number, "name": name} for number, name in categories.items()],
    }


def detections(*found: tuple[int, float, list[float]]) -> dict[str, Instances]:
    """Of (class, score, [left, top, width, height]); masks are filled boxes."""
    instances = Instances((SIDE, SIDE))
    boxes = torch.tensor([box for *_, box in found]).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    instances.pred_boxes = Boxes(boxes)
    instances.scores = torch.tensor([score for _, score, _ in found])
    instances.pred_classes = torch.tensor([number for number, *_ in found], dtype=torch.int64)
    masks = [mask_of(box) for *_, box in found]
    instances.pred_masks = torch.from_numpy(np.array(masks, bool).reshape(-1, SIDE, SIDE))
    return {"instances": instances}


def metric_of(kind: str, split: DetectionSplit, folder: Path) -> CocoMetric | VocMetric:
    if kind == "coco":
        return CocoMetric(split, masks=True)
    write_devkit(split, folder / "devkit")
    return VocMetric(split, folder / "devkit")


@pytest.mark.parametrize("kind", ["coco", "voc"])
def test_perfect_detections_have_100_whatever_classes_are_absent(kind: str, scenes: Path, tmp_path: Path) -> None:
    split = read_split(open_detection_split(scenes, "val"), masks=True)
    metric = metric_of(kind, split, tmp_path)
    for record in split.records:
        output = detections(
            *((item["category_id"], 0.9, list(map(float, item["bbox"]))) for item in record["annotations"])
        )
        masks = np.stack([pycocotools.mask.decode(item["segmentation"]) for item in record["annotations"]])
        output["instances"].pred_masks = torch.from_numpy(masks.astype(bool))
        metric.process([record], [output])
    scores = metric.scores()
    assert list(scores.values.values()) == pytest.approx([100] * len(scores.values))
    there = {item["category_id"] for item in split.objects}
    assert 0 < len(there) < len(split.classes)
    for number, (name, of_class) in enumerate(scores.per_class.items()):
        assert name == split.classes[number] and of_class.keys() == scores.values.keys()
        assert list(of_class.values()) == [pytest.approx(100) if number in there else None] * len(of_class)
        for precision in scores.precision.values():
            np.testing.assert_allclose(precision[number], 1 if number in there else np.nan)


FIRST, SECOND = [0.0, 0.0, 10.0, 10.0], [10.0, 0.0, 10.0, 10.0]
LONGER = [10.0, 0.0, 10.0, 16.0]
"""IoU 100 / 160 = 0.625 with SECOND."""
ELSEWHERE = [0.0, 15.0, 5.0, 5.0]
BY_HAND = [(0, 0.9, FIRST), (0, 0.8, ELSEWHERE), (0, 0.7, LONGER)]
"""Right, wrong, and right up to IoU 0.6: precision 1 up to recall 1/2, then 2/3 or nothing."""


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [("coco", (51 + 50 * 2 / 3) / 101, 51 / 101), ("voc", (6 + 5 * 2 / 3) / 11, 6 / 11)],
)
def test_by_hand(kind: str, low: float, high: float, tmp_path: Path) -> None:
    objects = [{"image_id": 1, "category_id": 4, "bbox": box} for box in (FIRST, SECOND)]
    split = read_split(written(tmp_path, coco_of(1, objects, {4: "a/b {0}"})), masks=True)
    metric = metric_of(kind, split, tmp_path)
    metric.process(split.records, [detections(*BY_HAND)])
    scores = metric.scores()
    expected = {"ap": 100 * (3 * low + 7 * high) / 10, "ap50": 100 * low, "ap75": 100 * high}  # 0.5, 0.55, 0.6; others
    if kind == "coco":
        expected = {f"{part}_{name}": value for part in ("box", "mask") for name, value in expected.items()}
    assert scores.values == pytest.approx(expected) and list(scores.values) == list(expected)
    assert scores.per_class["a/b {0}"] == pytest.approx(expected)
    curve = np.where(np.linspace(0, 1, 101) <= 0.5, 1, 2 / 3)
    assert len(scores.precision) == (2 if kind == "coco" else 1)
    for precision in scores.precision.values():
        np.testing.assert_allclose(precision, [curve])


@pytest.mark.parametrize("kind", ["coco", "voc"])
def test_nothing_found_is_zero(kind: str, tmp_path: Path) -> None:
    objects = [{"image_id": 1, "category_id": 2, "bbox": FIRST}]
    split = read_split(written(tmp_path, coco_of(1, objects, {1: "never", 2: "there"})), masks=True)
    metric = metric_of(kind, split, tmp_path)
    metric.process(split.records, [detections()])
    scores = metric.scores()
    assert set(scores.values.values()) == {0.0} and set(scores.per_class["there"].values()) == {0.0}
    assert set(scores.per_class["never"].values()) == {None}
    for precision in scores.precision.values():
        assert np.isnan(precision[0]).all() and (precision[1] == 0).all()


@pytest.mark.parametrize("kind", ["coco", "voc"])
def test_what_two_processes_find_is_measured_together(kind: str, tmp_path: Path) -> None:
    objects = [{"image_id": number, "category_id": 1, "bbox": FIRST} for number in (1, 2)]
    split = read_split(written(tmp_path, coco_of(2, objects, {1: "thing"})), masks=True)
    first, second = (metric_of(kind, split, tmp_path) for _ in range(2))
    for metric, record in zip((first, second), split.records, strict=True):
        metric.process([record], [detections((0, 0.9, FIRST))])
    first.add_predictions(second.predictions())
    assert first.scores().values[f"{'box_' if kind == 'coco' else ''}ap"] == pytest.approx(100)


@pytest.mark.parametrize("special", ["difficult", "iscrowd"])
def test_difficult_objects_and_crowds_neither_count_nor_are_wrong_to_find(special: str, tmp_path: Path) -> None:
    objects: list[dict[str, Any]] = [{"image_id": 1, "category_id": 1, "bbox": FIRST}]
    objects.append({"image_id": 1, "category_id": 1, "bbox": SECOND, special: 1})
    split = read_split(written(tmp_path, coco_of(1, objects, {1: "thing"})), masks=False)
    metric = metric_of("voc", split, tmp_path)
    metric.process(split.records, [detections((0, 0.9, SECOND), (0, 0.8, FIRST))])
    assert metric.scores().values["ap"] == pytest.approx(100)
    only = read_split(written(tmp_path, coco_of(1, [{**objects[0], "difficult": 1}], {1: "thing"})), masks=False)
    with pytest.raises(ScfsError, match="data set some, split val: all objects are difficult"):
        VocMetric(only, tmp_path)


def original_devkit(folder: Path, generator: np.random.Generator) -> dict[str, Any]:
    """Write a devkit of 12 images as VOC's own are, and return what `prepare` makes of its boxes."""
    for name in ("Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    objects = []
    names = [f"{number:06d}" for number in range(1, 13)]
    for number, name in enumerate(names, start=1):
        root = ET.Element("annotation")
        size = ET.SubElement(root, "size")
        ET.SubElement(size, "width").text = ET.SubElement(size, "height").text = str(SIDE)
        for _ in range(generator.integers(0, 4)):
            left, top = generator.integers(1, 12, 2)
            right, bottom = left + generator.integers(3, 8), top + generator.integers(3, 8)
            category, difficult = int(generator.integers(0, 2)), int(generator.integers(0, 4) == 0)
            element = ET.SubElement(root, "object")
            texts = {
                "name": "cat" if category else "dog",
                "pose": "Left",
                "truncated": "1",
                "difficult": str(difficult),
            }
            for key, text in texts.items():
                ET.SubElement(element, key).text = text
            box = ET.SubElement(element, "bndbox")
            for key, value in {"xmax": right, "xmin": left, "ymax": bottom, "ymin": top}.items():
                ET.SubElement(box, key).text = str(value)
            corner = [int(left) - 1, int(top) - 1, int(right - left) + 1, int(bottom - top) + 1]
            objects.append({"image_id": number, "category_id": category + 1, "bbox": corner, "difficult": difficult})
        ET.ElementTree(root).write(folder / "Annotations" / f"{name}.xml")
    (folder / "ImageSets" / "Main" / "test.txt").write_text("\n".join(names) + "\n")
    return coco_of(12, objects, {1: "dog", 2: "cat"})


def test_devkit_gives_what_detectron2_gives_on_the_original(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    original = tmp_path / "VOC2007"
    split = read_split(written(tmp_path, original_devkit(original, generator)), masks=False)
    theirs = load_voc_instances(str(original), "test", ["dog", "cat"])
    for ours, record in zip(split.records, theirs, strict=True):
        boxes = [[x, y, x + width, y + height] for x, y, width, height in (o["bbox"] for o in ours["annotations"])]
        assert boxes == [item["bbox"] for item in record["annotations"]]
    MetadataCatalog.get("original").set(thing_classes=["dog", "cat"], dirname=str(original), split="test", year=2007)
    evaluator, metric = PascalVOCDetectionEvaluator("original"), metric_of("voc", split, tmp_path)
    evaluator.reset()
    for ours, record in zip(split.records, theirs, strict=True):
        found = []
        for item in ours["annotations"]:
            moved = (np.array(item["bbox"]) + generator.normal(0, 0.7, 4)).tolist()
            found.append((item["category_id"], float(generator.random()), moved))
            found.append((1 - item["category_id"], float(generator.random()), moved))
        metric.process([ours], [detections(*found)])
        evaluator.process([record], [detections(*found)])
    expected = evaluator.evaluate()["bbox"]
    scores = metric.scores()
    assert scores.values == {"ap": expected["AP"], "ap50": expected["AP50"], "ap75": expected["AP75"]}
    assert 1 < scores.values["ap75"] < scores.values["ap50"] < 99
    for name, value in scores.values.items():
        assert value == pytest.approx(np.mean([of_class[name] for of_class in scores.per_class.values()]))


def test_precision_is_the_greatest_from_a_recall_on() -> None:
    curve = sampled(np.array([0.25, 0.25, 0.5]), np.array([1.0, 0.5, 0.75]))
    assert curve[[0, 25, 26, 50, 51, 100]].tolist() == [1.0, 1.0, 0.75, 0.75, 0.0, 0.0]


def test_categories_are_numbered_by_their_ids_and_crowds_are_no_objects(tmp_path: Path) -> None:
    objects: list[dict[str, Any]] = [
        {"image_id": 2, "category_id": 90, "bbox": FIRST, "difficult": 1},
        {"image_id": 1, "category_id": 7, "bbox": SECOND, "iscrowd": 1},
    ]
    split = read_split(written(tmp_path, coco_of(3, objects, {90: "last", 7: "first"})), masks=True)
    assert split.classes == ("first", "last")
    assert [item["category_id"] for item in split.objects] == [1] and split.objects[0]["difficult"] == 1
    assert [record["image_id"] for record in filter_images_with_only_crowd_annotations(split.records)] == [2]
    assert split.mask_format == "bitmask"
    polygon = {"image_id": 1, "category_id": 7, "bbox": FIRST, "segmentation": [[0, 0, 10, 0, 10, 10, 0, 10]]}
    crowd = {**objects[1], "segmentation": encode_mask(mask_of(SECOND))}
    split = read_split(written(tmp_path, coco_of(1, [polygon, crowd], {7: "thing"})), masks=True)
    assert split.mask_format == "polygon"


def test_what_cannot_be_trained_on_is_one_line(tmp_path: Path) -> None:
    crowd = {"image_id": 1, "category_id": 1, "bbox": FIRST, "iscrowd": 1}
    with pytest.raises(ScfsError, match="data set some, split val: has no object in any of its 1 images"):
        read_split(written(tmp_path, coco_of(1, [crowd], {1: "thing"})), masks=True)
    without = coco_of(1, [{"image_id": 1, "category_id": 1, "bbox": FIRST, "segmentation": []}], {1: "thing"})
    with pytest.raises(ScfsError, match=r"split val: 1.png: an object has no mask: the recipe needs one"):
        read_split(written(tmp_path, without), masks=True)
    assert read_split(written(tmp_path, without), masks=False).objects
    for broken in ({"images": 3}, coco_of(1, [{"image_id": 1, "category_id": 5, "bbox": FIRST}], {1: "thing"})):
        with pytest.raises(ScfsError, match=r"val.json: not COCO JSON with boxes: "):
            read_split(written(tmp_path, broken), masks=True)


def test_scores_are_numbers_that_json_can_hold(tmp_path: Path) -> None:
    objects = [{"image_id": 1, "category_id": 1, "bbox": FIRST}]
    split = read_split(written(tmp_path, coco_of(1, objects, {1: "a", 2: "b"})), masks=True)
    for kind in ("coco", "voc"):
        metric = metric_of(kind, split, tmp_path)
        metric.process(split.records, [detections((1, 0.5, FIRST))])
        scores = metric.scores()
        assert all(type(value) is float and math.isfinite(value) for value in scores.values.values())
        json.dumps([scores.values, scores.per_class], allow_nan=False)
