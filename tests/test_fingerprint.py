"""Behaviour of the expensive stage and its VERSION move together.

Some float64 steps of every method are compared with tests/fingerprint.json. A refactoring leaves them as they are; whoever
changes what training computes raises STAGE_VERSIONS["pretrain"] and runs `make fingerprint`.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from scfs.config.identity import STAGE_VERSIONS
from scfs.config.pretrain import Pretrain
from scfs.losses import PRESETS, Preset
from scfs.training.loop import Training
from scfs.views.loader import Batch
from scfs.views.table import augmentation_table

FILE = Path(__file__).parent / "fingerprint.json"
METHODS = ("scfs", "dino")
SETTINGS = {
    "dataset": "noise",
    "backbone": "narrow_resnet18",
    "epochs": 3,
    "batch": 4,
    "views": {"global_size": 64, "local_size": 32, "local_number": 2},
    "head": {"hidden": 16, "bottleneck": 8, "prototypes": 24},
    "search_head": {"width": 8, "hidden": 16, "output": 8},
    "loss": {"teacher_temperature_warmup": 2},
    "optimizer": {"warmup_epochs": 1},
}


def noise(step: int, crops: int, size: int) -> torch.Tensor:
    pixels = np.random.default_rng([step, size]).integers(0, 256, (crops * 4, size, size, 3), dtype=np.uint8)
    return torch.from_numpy(pixels)


def steps(method: str) -> dict[str, list[float]]:
    """All terms of three steps, and the teacher's parameters summed at the end."""
    training = Training(Pretrain.model_validate(SETTINGS | {"method": method}), 1, torch.device("cpu"), "fp64", "")
    seen: dict[str, list[float]] = {}
    for step in range(3):
        batch = Batch(step, torch.arange(4), noise(step, 2, 64), noise(step, 2, 32))
        for name, value in training.train_step(batch).items():
            seen.setdefault(name, []).append(value.item())
    seen["teacher"] = [parameter.abs().sum().item() for parameter in training.model.teacher.parameters()]
    return seen


def views() -> dict[str, list[float]]:
    """What the augmentation table draws."""
    settings = Pretrain.model_validate(SETTINGS).views
    table = augmentation_table(0, 1, np.arange(8), np.full((8, 2), 96), settings)
    return {name: np.asarray(table[name], dtype=float).sum((0, 1)).reshape(-1).tolist() for name in table.dtype.names}


def fingerprint() -> dict:
    torch.set_num_threads(1)
    return {"version": STAGE_VERSIONS["pretrain"], "views": views(), **{method: steps(method) for method in METHODS}}


def test_behaviour_is_that_of_the_version() -> None:
    ours = fingerprint()
    if "SCFS_WRITE_FINGERPRINT" in os.environ:
        FILE.write_text(json.dumps(ours, indent=1) + "\n")
    recorded = json.loads(FILE.read_text())
    assert ours["version"] == recorded["version"], "the version was raised: record it with `make fingerprint`"
    for part in ("views", *METHODS):
        assert set(ours[part]) == set(recorded[part]), f"{part}: raise STAGE_VERSIONS['pretrain']"
        for name, values in ours[part].items():
            message = f"{part}.{name} changed: raise STAGE_VERSIONS['pretrain'] and run `make fingerprint`"
            assert values == pytest.approx(recorded[part][name], rel=1e-9, abs=1e-12), message


def test_a_changed_behaviour_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    before = steps("scfs")
    changed = Preset(searched_views=1, reduction="mean", layer_weights=(0.5, 0.4999))
    monkeypatch.setitem(PRESETS, "official", changed)
    after = steps("scfs")
    assert after["loss"] != pytest.approx(before["loss"], rel=1e-9)
