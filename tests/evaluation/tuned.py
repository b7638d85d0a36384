"""A protocol of fine-tuning small enough to be repeated many times."""

from typing import Any

from scfs.config.finetune import FineTune

SMALL: dict[str, Any] = {
    **{"kind": "finetune", "dataset": "colours", "resize": 36, "crop": 32, "batch": 12, "steps": 6},
    **{"lr": [0.1], "weight_decay": [0.0], "precision": "fp32"},
}


def small(**changes: Any) -> FineTune:
    return FineTune.model_validate({**SMALL, **changes})
