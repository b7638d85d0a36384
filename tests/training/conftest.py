"""A run small enough to be repeated many times: 24 noise images, a narrow ResNet, 12 steps."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scfs.config.pretrain import Pretrain

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


@pytest.fixture(scope="session")
def noise_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("noise")
    pixels = np.random.default_rng(0).integers(0, 256, (24, 40, 40, 3), dtype=np.uint8)
    for index, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{index:02d}.png")
    return folder


@pytest.fixture(scope="session")
def tiny() -> Pretrain:
    return Pretrain.model_validate(TINY)
