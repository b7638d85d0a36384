"""A trained detector on the test images: predictions for the metric, and arrays for a figure."""

import scfs.detection.compat  # isort: skip  # noqa: F401

import copy
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data.detection_utils import annotations_to_instances, read_image, transform_instance_annotations
from detectron2.data.transforms import ResizeTransform
from detectron2.structures import Instances
from torch import nn

from scfs.detection.batches import EvaluationImages
from scfs.detection.data import DetectionSplit, Record, read_as_annotated
from scfs.detection.metrics import Metric
from scfs.io.progress import track
from scfs.runtime import collectives
from scfs.views.workers import prefetch

LONG_SIDE = 512
"""Longest side of an image in a figure, in pixels."""
CERTAIN = 0.5
"""Score from which detections are shown; the best one is shown in any case, and never more than MOST."""
MOST = 20

Arrays = dict[str, np.ndarray[Any, Any]]


@torch.no_grad()
def predict(model: nn.Module, images: EvaluationImages, number: int, metric: Metric, workers: int) -> None:
    """Predict on `number` images, shared between the processes; the metric of the first one gets all predictions.

    Raises:
        ScfsError: an image cannot be read.
    """
    model.eval()
    rows = range(number)[collectives.world().shard(number)]
    for inputs in track(prefetch(images, rows, workers), "detect: test", unit="images", total=len(rows)):
        metric.process(inputs, model(inputs))
    _, *others = collectives.all_gather_object(metric.predictions())
    if collectives.is_first():
        for predictions in others:
            metric.add_predictions(predictions)


@torch.no_grad()
def figure_arrays(
    model: nn.Module, images: EvaluationImages, split: DetectionSplit, cfg: CfgNode, number: int
) -> Arrays:
    """Collect ground truth and detections on images at even distances over the split.

    Returns:
        For i = 0 ... number - 1: `image_i` (H, W, 3) uint8, at most LONG_SIDE pixels long; `truth_boxes_i` (n, 4)
        float32, x0, y0, x1, y1 in pixels of that image; `truth_classes_i` (n,) int64; with masks `truth_masks_i`
        (n, H, W) bool. Detections, by falling score, have the same arrays, called `found_...`, and `found_scores_i`
        (n,) float32.
    """
    model.eval()
    number = min(number, len(split.records))
    rows = [place * len(split.records) // number for place in range(number)]
    arrays: Arrays = {}
    for place, row in enumerate(rows):
        record = split.records[row]
        height, width = figure_size(record["height"], record["width"])
        (inputs,) = images[row]
        (output,) = model([{**inputs, "height": height, "width": width}])
        shown = _truth(record, cfg, (height, width)) | _found(output["instances"].to("cpu"), cfg.MODEL.MASK_ON)
        arrays |= {f"{name}_{place}": array for name, array in shown.items()}
    return arrays


def figure_size(height: int, width: int) -> tuple[int, int]:
    """Return height and width of an image in a figure."""
    scale = min(1.0, LONG_SIDE / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _truth(record: Record, cfg: CfgNode, size: tuple[int, int]) -> Arrays:
    """Return the resized image and its objects without crowds."""
    resize = ResizeTransform(record["height"], record["width"], *size)
    items = copy.deepcopy([item for item in record["annotations"] if not item.get("iscrowd", 0)])
    for item in () if cfg.MODEL.MASK_ON else items:
        item.pop("segmentation", None)
    moved = [transform_instance_annotations(item, [resize], size) for item in items]
    objects = annotations_to_instances(moved, size, "bitmask")
    with read_as_annotated(record):
        image = read_image(record["file_name"], "RGB")
    arrays = {
        "image": resize.apply_image(image),
        "truth_boxes": objects.gt_boxes.tensor.float().numpy(),
        "truth_classes": objects.gt_classes.numpy(),
    }
    if cfg.MODEL.MASK_ON:
        arrays["truth_masks"] = objects.gt_masks.tensor.numpy() if items else np.zeros((0, *size), bool)
    return arrays


def _found(objects: Instances, masks: bool) -> Arrays:
    objects = objects[objects.scores.argsort(descending=True, stable=True)]
    shown = objects[: min(MOST, max(1, int((objects.scores >= CERTAIN).sum())))]
    arrays = {
        "found_boxes": shown.pred_boxes.tensor.numpy(),
        "found_classes": shown.pred_classes.numpy(),
        "found_scores": shown.scores.numpy(),
    }
    if masks:
        arrays["found_masks"] = shown.pred_masks.numpy()
    return arrays
