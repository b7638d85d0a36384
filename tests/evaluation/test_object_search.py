"""Crops of an image of two colours find their own colour, and are told apart by how much of the object they show."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from scfs.config.evaluation import ObjectSearch
from scfs.data.sources.folders import image_folder
from scfs.errors import ScfsError
from scfs.evaluation import object_search
from scfs.evaluation.features import FrozenEncoder
from scfs.evaluation.object_search import drawn_boxes, drawn_crops, evaluate, object_shares
from scfs.model.backbones.base import Network

SIDE = 64
PROTOCOL = ObjectSearch(
    kind="object_search", dataset="two", resize=SIDE, crop=SIDE, layers=("layer3",), crops=40, local_size=16
)


class Colours(Network):
    """Its maps are the images' colours."""

    name = "narrow_resnet18"

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"layer3": F.avg_pool2d(images, 4)}


def object_mask() -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[:, : SIDE // 2] = True
    return mask


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """A data set of one image: red where the object is, blue elsewhere."""
    pixels = np.where(object_mask()[..., None], [255, 0, 0], [0, 0, 255]).astype(np.uint8)
    (tmp_path / "images").mkdir()
    Image.fromarray(pixels).save(tmp_path / "images/one.png")
    masks = {"one.png": object_mask()}
    monkeypatch.setattr(object_search, "open_masks", lambda name, split: (image_folder(tmp_path / "images"), masks))
    return masks


def test_crops_of_the_object_find_it_and_crops_of_the_ground_do_not(two: dict[str, np.ndarray]) -> None:
    values = evaluate(PROTOCOL, FrozenEncoder(Colours(), torch.device("cpu"))).values
    shares = object_shares(object_mask(), drawn_boxes(0, (SIDE, SIDE), PROTOCOL))
    quarters = np.minimum(4 * shares, 3).astype(int)
    assert [values[f"crops_{quarter}"] for quarter in (0, 25, 50, 75)] == np.bincount(quarters, minlength=4).tolist()
    assert values["layer3_score_75"] == pytest.approx(2.0, abs=0.05)  # all of the mass in half of the area
    assert values["layer3_pointing_75"] == 100.0
    assert values["layer3_score_0"] == pytest.approx(0.0, abs=0.05)
    assert values["layer3_pointing_0"] == 0.0


def test_without_a_mask_it_is_refused(two: dict[str, np.ndarray]) -> None:
    two.clear()
    with pytest.raises(ScfsError, match=r"object_search: data set .*: no image has an object mask"):
        evaluate(PROTOCOL, FrozenEncoder(Colours(), torch.device("cpu")))


def test_crops_are_those_of_their_boxes() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (50, 70, 3), dtype=np.uint8)
    for crop, (top, left, height, width) in zip(
        drawn_crops(image, 3, PROTOCOL), drawn_boxes(3, (50, 70), PROTOCOL), strict=True
    ):
        assert 0 <= top <= top + height <= 50 and 0 <= left <= left + width <= 70
        assert crop.shape == (16, 16, 3)
        part = image[top : top + height, left : left + width].reshape(-1, 3).mean(0)
        assert np.abs(crop.reshape(-1, 3).mean(0) - part).max() < 25
