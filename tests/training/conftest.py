"""A run small enough to be repeated many times: 24 noise images, a narrow ResNet, 12 steps."""

from pathlib import Path

import numpy as np
import pytest
import ranks
from PIL import Image
from tiny import TINY

from scfs.config.pretrain import Pretrain


@pytest.fixture(scope="session")
def noise_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("noise")
    pixels = np.random.default_rng(0).integers(0, 256, (24, 40, 40, 3), dtype=np.uint8)
    for index, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{index:02d}.png")
    return folder


@pytest.fixture
def shallow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Backbones of one block in a layer, in this process."""
    ranks.shallow_backbones(monkeypatch)


@pytest.fixture(scope="session")
def tiny() -> Pretrain:
    return Pretrain.model_validate(TINY)
