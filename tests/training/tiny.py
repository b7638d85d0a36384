"""Settings and backbones of a run small enough to be repeated many times."""

import pytest

from scfs.config.backbones import BACKBONES, ResNetSpec, vit

TINY = {
    "dataset": "noise",
    "method": "scfs",
    "backbone": "narrow_resnet18",
    "epochs": 3,
    "batch": 6,
    "precision": "fp32",
    "views": {"global_size": 32, "local_size": 16, "local_number": 2},
    "head": {"hidden": 16, "bottleneck": 8, "prototypes": 24, "batch_norm": True},
    "search_head": {"width": 8, "hidden": 16, "output": 8},
    "loss": {"teacher_temperature_warmup": 2},
    "optimizer": {"lr": 2.0, "warmup_epochs": 1, "min_lr": 0.001},
}
SHALLOW = {
    "narrow_resnet18": ResNetSpec(blocks=(1, 1, 1, 1), width=16),
    "resnet50": ResNetSpec(bottleneck=True, blocks=(1, 1, 1, 1), width=16),
    "narrow_vit_8": vit(8, side=64, channels=32, blocks=4, heads=4),
}
"""One block in a layer: what processes on few cores wait for are the messages of each BatchNorm."""


def shallow_backbones(patch: pytest.MonkeyPatch | None = None) -> None:
    """Let the backbones' names mean `SHALLOW`: until the end of a test, or of this process."""
    for name, spec in SHALLOW.items():
        (patch or pytest.MonkeyPatch()).setitem(BACKBONES._things, name, spec)
