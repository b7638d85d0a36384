"""COCO's metric for boxes and masks, by Detectron2's COCOEvaluator and pycocotools."""

import scfs.detection.compat  # isort: skip  # noqa: F401

import contextlib
import io
from typing import Any

import numpy as np
import numpy.typing as npt
from detectron2.evaluation import COCOEvaluator

from scfs.detection.data import DetectionSplit, Record
from scfs.detection.metric import AP, RECALLS, Scores

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
