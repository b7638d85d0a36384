from pathlib import Path

import numpy as np
import pytest
import torch

from scfs import paths
from scfs.config.evaluation import Knn
from scfs.data.decoding import decode
from scfs.data.manifest import ImageSet
from scfs.data.opening import open_split
from scfs.evaluation import features
from scfs.evaluation.features import FrozenEncoder, clean_view, extract, split_rows, stream
from scfs.model.backbones.resnet import pooled
from scfs.views.images import normalize, resize_crop

SHOW = clean_view(Knn(kind="knn", dataset="colours", resize=36, crop=32))


@pytest.fixture
def images(workplace: Path) -> ImageSet:
    return open_split(paths.manifest("colours"), "train")


def test_every_image_once_in_the_manifests_order(
    images: ImageSet, encoder: FrozenEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "FORWARD_BATCH", 5)
    monkeypatch.setattr(features, "BLOCK", 13)
    found = extract(encoder, images, ["layer2", "layer4"], SHOW)
    for row in range(len(images)):
        view = resize_crop(decode(images.read(row), "image"), 36, 32)
        maps = encoder.backbone(normalize(torch.from_numpy(view)[None]))
        for layer in ("layer2", "layer4"):
            torch.testing.assert_close(found[layer][row], pooled(maps[layer])[0], rtol=1e-4, atol=1e-5)
    assert {layer: (x.shape[1], x.dtype) for layer, x in found.items()} == {
        "layer2": (64, torch.float32),
        "layer4": (256, torch.float32),
    }
    assert len(found["layer4"].unique(dim=0)) == len(images)


def test_rows_give_the_order_and_blocks_their_size(images: ImageSet, encoder: FrozenEncoder) -> None:
    rows = np.array([7, 3, 30, 3, 12])
    every = extract(encoder, images, ["layer4"], SHOW)["layer4"]
    blocks = [
        block["layer4"] for block in stream(encoder, images, ["layer4"], SHOW, split_rows(rows, 2), "features of")
    ]
    assert [len(block) for block in blocks] == [2, 2, 1]
    torch.testing.assert_close(torch.cat(blocks), every[rows], rtol=1e-4, atol=1e-5)


def test_workers_change_nothing(images: ImageSet, encoder: FrozenEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "FORWARD_BATCH", 8)
    alone = extract(encoder, images, ["layer4"], SHOW)["layer4"]
    helped = extract(FrozenEncoder(encoder.backbone, encoder.device, workers=2), images, ["layer4"], SHOW)["layer4"]
    assert alone.numpy().tobytes() == helped.numpy().tobytes()


def test_images_are_read_only_when_their_block_is_due(images: ImageSet, encoder: FrozenEncoder) -> None:
    shown: list[int] = []

    def show(image: np.ndarray, row: int) -> np.ndarray:
        shown.append(row)
        return SHOW(image, row)

    blocks = stream(encoder, images, ["layer4"], show, split_rows(np.arange(len(images)), 4), "features of")
    next(blocks)
    assert shown == [0, 1, 2, 3]
    next(blocks)
    assert shown == list(range(8))
