"""A protocol of fine-tuning small enough to be repeated many times."""

from typing import Any

from scfs.config.finetune import FineTune
from scfs.evaluation.finetune.crops import CropBatch, CropBatches

SMALL: dict[str, Any] = {
    **{"kind": "finetune", "dataset": "colours", "resize": 36, "crop": 32, "batch": 12, "steps": 6},
    **{"lr": [0.1], "weight_decay": [0.0], "precision": "fp32"},
}


def small(**changes: Any) -> FineTune:
    return FineTune.model_validate({**SMALL, **changes})


def batch_of(data: CropBatches, step: int) -> list[CropBatch]:
    """The parts of a step's batch."""
    number = data.protocol.accumulate
    return [data[step * number + part] for part in range(number)]
