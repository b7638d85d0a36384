"""What the benchmarks' metrics have in common."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from scfs.detection.data import Record

AP = {"AP": "ap", "AP50": "ap50", "AP75": "ap75"}
"""Our names by Detectron2's: the mean over IoU 0.5, 0.55, ... 0.95, and those at 0.5 and 0.75."""

RECALLS = np.linspace(0, 1, 101)
"""Where the curves of precision are sampled, as COCO does."""


@dataclass(frozen=True)
class Scores:
    """Average precision, in percent."""

    values: dict[str, float]
    """By name (scfs.config.detection.VALUES)."""
    per_class: dict[str, dict[str, float | None]]
    """The same of each class; None: there is nothing of it to be found."""
    precision: dict[str, npt.NDArray[np.float64]]
    """`precision` of boxes, `mask_precision` of masks: at IoU 0.5, over RECALLS, (K, 101); NaN where None."""


class Metric(Protocol):
    """Takes what a model finds in the test images, in their order."""

    def process(self, inputs: list[Record], outputs: list[Record]) -> None:
        """Take the model's inputs and outputs."""

    def found(self) -> Any:
        """What was taken, to be sent to another process."""

    def add(self, found: Any) -> None:
        """Take what another process has found."""

    def scores(self) -> Scores:
        """Measure; in one process, without others around."""
