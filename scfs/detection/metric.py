"""The interface of the benchmarks' metrics, and their scores."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from scfs.detection.data import Record

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
        """Compute the scores; only outside a process group, as Detectron2's evaluators have collectives."""
