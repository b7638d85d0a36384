"""The authors' formulation, as benchmarks/ has it, against the product: a step in float64."""

from dataclasses import replace

import pytest
import torch
import torchvision
from torch import Tensor
from torchvision.models.resnet import BasicBlock, ResNet

from benchmarks.reference_step import ReferenceStep
from benchmarks.step import batch_of, crops_of
from scfs.config.backbones import BACKBONES, ResNetSpec
from scfs.config.pretrain import Pretrain
from scfs.training.loop import Pretraining

CPU = torch.device("cpu")
SETTINGS = Pretrain.model_validate(
    {
        "dataset": "noise",
        "backbone": "resnet18",
        "batch": 3,
        "views": {"global_size": 64, "local_size": 48, "local_number": 3},
        "head": {"hidden": 16, "bottleneck": 8, "prototypes": 24},
        "search_head": {"width": 8, "hidden": 16, "output": 8},
        "optimizer": {"warmup_epochs": 1, "lr": 2.0},
    }
)
STEPS = 4


def close(one: Tensor, other: Tensor) -> bool:
    """Equal to 1e-9 of the largest value; a bias in front of BatchNorm has no gradient but rounding, hence 1e-12."""
    return bool((one - other).abs().max() <= 1e-9 * one.abs().max() + 1e-12)


def test_steps_equal_the_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a ResNet-18 with one block in a layer: the first steps of an epoch in which the last layer is frozen, and of the next one."""
    blocks = (1, 1, 1, 1)
    spec = BACKBONES["resnet18"]
    assert isinstance(spec, ResNetSpec)
    monkeypatch.setitem(BACKBONES._things, "resnet18", replace(spec, blocks=blocks))
    monkeypatch.setattr(torchvision.models, "resnet18", lambda weights: ResNet(BasicBlock, list(blocks)))
    training = Pretraining(SETTINGS, STEPS // 2, CPU, "fp64", "")
    schedules, initial = training.schedules, {k: v.clone() for k, v in training.model.state_dict().items()}
    reference = ReferenceStep(SETTINGS, initial, CPU, torch.float64)
    for step in range(STEPS):
        batch = batch_of(SETTINGS, seed=step)
        theirs = reference.step(
            crops_of(batch, CPU, torch.float64),
            schedules.teacher_temperature(step),
            schedules.lr(step),
            schedules.weight_decay(step),
            schedules.teacher_momentum(step),
            frozen=schedules.epoch(step) < SETTINGS.optimizer.freeze_last_layer,
        )
        ours = training.train_step(batch)
        assert {name: term.item() for name, term in theirs.items()} == pytest.approx(
            {name: ours[name].item() for name in theirs}, rel=1e-9
        )
    state = training.model.state_dict()
    for name in ("student", "teacher"):
        for key, value in getattr(reference, name).state_dict().items():
            assert close(state[f"{name}.{key}"], value), f"{name}.{key}"
    assert set(reference.centers) == {name for name in state if "center" in name}
    for name, center in reference.centers.items():
        assert close(state[name], center), name
    for name in ("student.backbone.layer4.0.conv2.weight", "student.head.last_layer.weight_v", "center"):
        assert (state[name] - initial[name]).abs().max() > 1e-6, name
