"""A run small enough to be repeated many times: 24 noise images, a narrow ResNet, 12 steps."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import TINY, shallow_backbones

from scfs.config.pretrain import Pretrain


@pytest.fixture(scope="session")
def noise_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("noise")
    pixels = np.random.default_rng(0).integers(0, 256, (24, 40, 40, 3), dtype=np.uint8)
    for index, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{index:02d}.png")
    return folder


@pytest.fixture(scope="module", autouse=True)
def shallow() -> Iterator[None]:
    """Backbones of one block in a layer, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        shallow_backbones(patch)
        yield


@pytest.fixture(scope="session")
def tiny() -> Pretrain:
    return Pretrain.model_validate(TINY)
