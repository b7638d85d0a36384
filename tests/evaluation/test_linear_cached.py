from pathlib import Path

import pytest
import torch
from torch import Tensor

from scfs import paths
from scfs.config.evaluation import LinearCached
from scfs.data.opening import open_split
from scfs.evaluation import linear
from scfs.evaluation.features import FrozenEncoder, clean_view, extract
from scfs.evaluation.probe import Classifiers

PROTOCOL = LinearCached(
    kind="linear_cached", dataset="colours", resize=36, crop=32, epochs=2, batch=16, lr=0.1, seeds=(3, 4)
)


def test_each_seed_sees_every_image_once_per_epoch_in_its_own_order(
    workplace: Path, encoder: FrozenEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[tuple[Tensor, Tensor]] = []
    monkeypatch.setattr(Classifiers, "step", lambda _, features, labels: steps.append((features, labels)))
    linear.evaluate_cached(PROTOCOL, encoder)
    assert [features.shape[1] for features, _ in steps] == [16, 16, 10] * 2

    images = open_split(paths.manifest("colours"), "train")
    cached = extract(encoder, images, ["layer4"], clean_view(PROTOCOL))["layer4"]
    labels = torch.from_numpy(images.require_labels())
    orders = []
    for epoch in (steps[:3], steps[3:]):
        for seed in (0, 1):
            features = torch.cat([part[seed] for part, _ in epoch])
            rows = torch.cdist(features, cached).argmin(1)
            assert torch.equal(features, cached[rows])
            assert torch.equal(torch.cat([part[seed] for _, part in epoch]), labels[rows])
            assert sorted(rows.tolist()) == list(range(len(images)))
            orders.append(tuple(rows.tolist()))
    assert len(set(orders)) == 4
