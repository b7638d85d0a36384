"""One optimiser step: parts of a batch, weight decay, precision."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from scfs.config.pretrain import Pretrain
from scfs.training.loop import Pretraining
from scfs.views.loader import Batch

Changed = Callable[..., Pretrain]


@pytest.fixture
def changed(tiny: Pretrain) -> Changed:
    def change(**values: Any) -> Pretrain:
        return Pretrain.model_validate(tiny.model_dump() | values)

    return change


def crops(images: Tensor, number: int, size: int) -> Tensor:
    """(number * B, size, size, 3) noise that depends on the image alone, so that equal rows show equal images."""
    pixels = [
        np.random.default_rng([int(row), view, size]).integers(0, 256, (size, size, 3), dtype=np.uint8)
        for view in range(number)
        for row in images
    ]
    return torch.from_numpy(np.stack(pixels))


def batch(rows: list[int], step: int = 0) -> Batch:
    images = torch.tensor(rows)
    crop_boxes = torch.tensor([[(0, 0, 40, 40, 0)] * len(rows)] * 4, dtype=torch.int32)
    return Batch(step, images, crops(images, 2, 32), crops(images, 2, 16), crop_boxes)


def trained(settings: Pretrain, steps: list[Batch], precision: str = "fp64") -> Pretraining:
    training = Pretraining(settings, 4, torch.device("cpu"), precision, "")
    for step in steps:
        training.train_step(step)
    return training


@pytest.mark.parametrize("method", ["scfs", "dino", "roi_crop"])
def test_equal_parts_give_the_step_of_the_whole_batch(changed: Changed, method: str) -> None:
    """Both parts hold the same images, so that BatchNorm cannot tell part from whole; only its buffers count calls."""
    twice = [batch([1, 2, 3, 1, 2, 3], step) for step in range(2)]
    whole, parts = (trained(changed(method=method, accumulate=n), twice).model for n in (1, 2))
    for (name, one), other in zip(whole.named_parameters(), parts.parameters(), strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-12), name
    for layer in ("center", *(f"{layer}_center" for layer in whole.layers)):
        assert whole.get_buffer(layer).abs().max() > 0
        assert torch.allclose(whole.get_buffer(layer), parts.get_buffer(layer), rtol=1e-9), layer


def test_parts_of_a_batch_are_consecutive_images_of_every_crop() -> None:
    first, second = batch([4, 5, 6, 7]).parts(2)
    for part, rows in ((first, [4, 5]), (second, [6, 7])):
        expected = batch(rows)
        for ours, theirs in zip(part, expected, strict=True):
            assert (ours is None) == (theirs is None)
            if ours is not None:
                assert torch.equal(torch.as_tensor(ours), torch.as_tensor(theirs))


def test_accumulation_must_divide_the_batch(changed: Changed) -> None:
    with pytest.raises(ValueError, match=r"accumulate must divide batch \(6\)"):
        changed(accumulate=4)


@pytest.mark.parametrize("name", ["sgd", "lars", "adamw"])
def test_weight_decay_follows_its_cosine_and_spares_biases_and_norms(changed: Changed, name: str) -> None:
    optimizer = {
        "name": name,
        "lr": 0.02,
        "warmup_epochs": 0,
        "min_lr": 0,
        "weight_decay": 0.04,
        "weight_decay_end": 0.4,
    }
    training = Pretraining(changed(optimizer=optimizer), 2, torch.device("cpu"), "fp64", "")
    before = {key: value.clone() for key, value in training.model.student.named_parameters()}
    decays = []
    for step in range(6):  # three epochs
        training.train_step(batch([1, 2, 3, 4, 5, 6], step))
        decays.append([group["weight_decay"] for group in training.optimizer.param_groups])
    expected = [0.4 + 0.5 * (0.04 - 0.4) * (1 + np.cos(np.pi * step / 6)) for step in range(6)]
    assert np.allclose(decays, np.stack([expected, np.zeros(6)], axis=1))
    plain = {id(p) for p in training.optimizer.param_groups[1]["params"]}
    for key, parameter in training.model.student.named_parameters():
        if parameter.requires_grad:
            assert (id(parameter) in plain) == (parameter.ndim == 1 or key.endswith(".bias")), key
            if id(parameter) not in plain:
                assert key.endswith("last_layer.weight_v") or not torch.equal(parameter, before[key]), key


def test_fp16_finds_its_scale_learns_and_resumes_with_it(changed: Changed) -> None:
    """The first steps overflow at the initial scale and are skipped, each halving it."""
    settings = changed(precision="fp16")
    training = trained(settings, [batch([1, 2, 3, 4, 5, 6], step) for step in range(12)], "fp16")
    scale = training.scaler.get_scale()
    assert 1 < scale < 2**16
    initial = Pretraining(settings, 4, torch.device("cpu"), "fp16", "").model.student.backbone.conv1.weight
    weight = training.model.student.backbone.conv1.weight
    assert torch.isfinite(weight).all() and not torch.equal(weight, initial)
    resumed = Pretraining(settings, 4, torch.device("cpu"), "fp16", "")
    resumed.restore(training.state(), Path("here"))
    assert resumed.scaler.get_scale() == scale
