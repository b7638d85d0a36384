"""The benchmarks' metrics, by Detectron2's evaluators: COCO's for boxes and masks, and VOC's of 2007 (11 recalls)."""

import scfs.detection.compat  # isort: skip  # noqa: F401

import contextlib
import io
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
from detectron2.data import MetadataCatalog
from detectron2.evaluation import COCOEvaluator, PascalVOCDetectionEvaluator
from detectron2.evaluation.pascal_voc_evaluation import voc_eval

from scfs.detection.data import DetectionSplit, Record
from scfs.errors import ScfsError, writing

AP = {"AP": "ap", "AP50": "ap50", "AP75": "ap75"}
"""Our names by Detectron2's: the mean over IoU 0.5, 0.55, ... 0.95, and those at 0.5 and 0.75."""

RECALLS = np.linspace(0, 1, 101)
"""Recalls at which the precision curves are sampled, as in COCO."""


@dataclass(frozen=True)
class Scores:
    """Average precision, in percent."""

    values: dict[str, float]
    """AP over all classes, by name (scfs.config.detection.VALUES)."""
    per_class: dict[str, dict[str, float | None]]
    """AP of each class; None if the split has no object of it."""
    precision: dict[str, npt.NDArray[np.float64]]
    """`precision` of boxes, `mask_precision` of masks: at IoU 0.5, over RECALLS, (K, 101); NaN without an object."""


class Metric(Protocol):
    """Takes the predictions on the test images, in their order."""

    def process(self, inputs: list[Record], outputs: list[Record]) -> None:
        """Take the model's inputs and outputs."""

    def predictions(self) -> Any:
        """Return the predictions, to be sent to another process."""

    def add_predictions(self, predictions: Any) -> None:
        """Add the predictions of another process."""

    def scores(self) -> Scores:
        """Compute the scores."""


TASKS = {"bbox": "box", "segm": "mask"}
IOU_50, IOU_75 = 0, 5
"""Indices of IoU 0.5 and 0.75 among COCO's thresholds 0.5, 0.55, ... 0.95."""


class CocoMetric(COCOEvaluator):
    """Detectron2's evaluator, which also keeps the precision of each class.

    Args:
        split: the test split.
        masks: True if masks are measured too.
    """

    def __init__(self, split: DetectionSplit, masks: bool) -> None:
        tasks = ("bbox", "segm") if masks else ("bbox",)
        super().__init__(split.name, tasks, distributed=False, use_fast_impl=False)
        self._classes = split.classes
        self._are_there = {item["category_id"] for item in split.objects}
        self._precision: dict[str, npt.NDArray[np.float64]] = {}
        self.reset()

    def _derive_coco_results(self, coco_eval: Any, iou_type: str, class_names: Any = None) -> Any:
        """Detectron2's hook: keep (T, R, K) of all areas and at most 100 detections; -1 where there is no object."""
        if coco_eval is None:
            there = [number in self._are_there for number in range(len(self._classes))]
            self._precision[iou_type] = np.tile(np.where(there, 0.0, -1.0), (10, len(RECALLS), 1))
        else:
            self._precision[iou_type] = coco_eval.eval["precision"][..., 0, -1]
        return super()._derive_coco_results(coco_eval, iou_type, class_names)

    def predictions(self) -> list[Record]:
        """Return the detections of each image, as COCO's JSON has them."""
        predictions: list[Record] = self._predictions
        return predictions

    def add_predictions(self, predictions: list[Record]) -> None:
        """Add the predictions of another process."""
        self._predictions.extend(predictions)

    def scores(self) -> Scores:
        """Compute AP; over all classes it is Detectron2's, but 0 where that is NaN, which means no detection at all."""
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints a table
            results = self.evaluate()
        values: dict[str, float] = {}
        per_class: dict[str, dict[str, float | None]] = {name: {} for name in self._classes}
        precision = {}
        for task, name in TASKS.items():
            if task not in results:
                continue
            values |= {f"{name}_{ours}": float(np.nan_to_num(results[task][theirs])) for theirs, ours in AP.items()}
            found = np.where(self._precision[task] > -1, self._precision[task], np.nan)
            precision["precision" if task == "bbox" else "mask_precision"] = found[IOU_50].T
            of_classes = {"ap": found.mean((0, 1)), "ap50": found[IOU_50].mean(0), "ap75": found[IOU_75].mean(0)}
            for number, of_class in enumerate(per_class.values()):
                for ours, means in of_classes.items():
                    of_class[f"{name}_{ours}"] = None if np.isnan(means[number]) else float(means[number] * 100)
        return Scores(values, per_class, precision)


THRESHOLDS = range(50, 100, 5)
"""IoU thresholds in percent."""
SPLIT = "test"
"""Name of the test split in a devkit."""


class VocMetric(PascalVOCDetectionEvaluator):
    """Detectron2's evaluator, which also tells the classes' AP and precision.

    Classes of which no object counts are left out of the mean; Detectron2 takes their AP for 0.

    Args:
        split: the test split.
        devkit: folder where `write_devkit` has written it, or will have before `scores`.

    Raises:
        ScfsError: no object of the split counts.
    """

    def __init__(self, split: DetectionSplit, devkit: Path) -> None:
        self._counted = sorted({item["category_id"] for item in split.objects if not is_left_out(item)})
        if not self._counted:
            raise ScfsError(f"{split.source}: all objects are difficult: there is nothing to measure")
        self._classes, names = split.classes, list(map(class_name, split.classes))
        name = f"{split.name}:voc:{devkit.resolve()}"
        MetadataCatalog.get(name).set(thing_classes=names, dirname=str(devkit), split=SPLIT, year=2007)
        super().__init__(name)
        self.reset()

    def process(self, inputs: list[Record], outputs: list[Record]) -> None:
        """Take the model's inputs and outputs."""
        super().process([{"image_id": image_name(image["image_id"])} for image in inputs], outputs)

    def predictions(self) -> dict[int, list[str]]:
        """Return the lines of VOC's result files by class."""
        return dict(self._predictions)

    def add_predictions(self, predictions: dict[int, list[str]]) -> None:
        """Add the predictions of another process."""
        for number, lines in predictions.items():
            self._predictions[number].extend(lines)

    def scores(self) -> Scores:
        """Compute AP, over all classes as Detectron2 does."""
        per_class: dict[str, dict[str, float | None]] = {name: dict.fromkeys(AP.values()) for name in self._classes}
        precision = np.full((len(self._classes), len(RECALLS)), np.nan)
        by_class = []
        for number in self._counted:
            ap, precision[number] = self._class_scores(number)
            per_class[self._classes[number]].update(_summary(ap))
            by_class.append(ap)
        means = {threshold: float(np.mean([ap[threshold] for ap in by_class])) for threshold in THRESHOLDS}
        return Scores(_summary(means), per_class, {"precision": precision})

    def _class_scores(self, number: int) -> tuple[dict[int, float], npt.NDArray[np.float64]]:
        """Compute a class's AP by threshold, and its precision over RECALLS at the first threshold."""
        ap, curves, name = {}, {}, class_name(self._classes[number])
        with TemporaryDirectory() as folder:
            Path(folder, f"{name}.txt").write_text("\n".join(self._predictions.get(number, [])))
            files = f"{folder}/{{}}.txt", self._anno_file_template, self._image_set_path
            for threshold in THRESHOLDS:
                recall, precision, of_class = voc_eval(*files, name, ovthresh=threshold / 100, use_07_metric=True)
                ap[threshold], curves[threshold] = float(of_class * 100), (recall, precision)
        return ap, sampled(*curves[THRESHOLDS[0]])


def _summary(ap: Mapping[int, float]) -> dict[str, float]:
    """Name the mean over the thresholds, and two of them."""
    return {"ap": float(np.mean(list(ap.values()))), "ap50": ap[50], "ap75": ap[75]}


def sampled(recall: npt.NDArray[np.float64], precision: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the greatest precision at each of RECALLS or beyond, 0 where it is not reached: (101,)."""
    return np.array([precision[recall >= wanted].max(initial=0.0) for wanted in RECALLS])


def class_name(name: str) -> str:
    """Return a class's name in a devkit, where it names a file: slashes and the like are percent-encoded."""
    return quote(name, safe=" ")


def image_name(image_id: int) -> str:
    """Return an image's name in a devkit."""
    return f"{image_id:06d}"


def is_left_out(item: Record) -> bool:
    """True if an object neither counts nor is wrong to detect: VOC's difficult ones, and crowds."""
    return bool(item.get("difficult", 0) or item.get("iscrowd", 0))


def write_devkit(split: DetectionSplit, folder: Path) -> None:
    """Write a split as a VOC devkit into `folder`: Annotations/*.xml and ImageSets/Main/test.txt (VOC2007 devkit).

    Corners are the first and last pixel, counted from 1, rounded if the boxes do not lie on pixels.

    Raises:
        ScfsError: the disk is full or the folder cannot be written.
    """
    annotations, lists = folder / "Annotations", folder / "ImageSets" / "Main"
    with writing(folder):
        for place in (annotations, lists):
            place.mkdir(parents=True, exist_ok=True)
        for record in split.records:
            tree = ET.ElementTree(_annotation(record, split.classes))
            tree.write(annotations / f"{image_name(record['image_id'])}.xml", encoding="utf-8")
        names = [image_name(record["image_id"]) for record in split.records]
        (lists / f"{SPLIT}.txt").write_text("".join(f"{name}\n" for name in names))


def _annotation(record: Record, classes: tuple[str, ...]) -> ET.Element:
    root = ET.Element("annotation")
    _fill(ET.SubElement(root, "size"), {"width": record["width"], "height": record["height"], "depth": 3})
    for item in record["annotations"]:
        left, top, width, height = item["bbox"]
        element, name = ET.SubElement(root, "object"), class_name(classes[item["category_id"]])
        _fill(element, {"name": name, "pose": "Unspecified", "truncated": 0, "difficult": int(is_left_out(item))})
        corners = {"xmin": left + 1, "ymin": top + 1, "xmax": left + width, "ymax": top + height}
        _fill(ET.SubElement(element, "bndbox"), {name: round(value) for name, value in corners.items()})
    return root


def _fill(parent: ET.Element, values: dict[str, object]) -> None:
    for name, value in values.items():
        ET.SubElement(parent, name).text = str(value)
