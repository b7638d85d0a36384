"""Freezing and the warm-up of tau' in fractions of an epoch, for trainings of few epochs; whole epochs are as they were."""

import pytest
import torch
from tiny import TINY

from scfs.config.base import parse
from scfs.config.pretrain import Pretrain
from scfs.model.methods import build_method
from scfs.training.schedules import Schedules


def schedules(**settings: object) -> Schedules:
    values = {"dataset": "x", "epochs": 4, "optimizer": {"warmup_epochs": 0}, **settings}
    return Schedules(parse(Pretrain, values, "pretrain"), 10)


def temperatures(warmup: float) -> list[float]:
    loss = {"teacher_temperature": [0.01, 0.04], "teacher_temperature_warmup": warmup}
    return [schedules(loss=loss).teacher_temperature(step) for step in range(40)]


def test_a_fraction_rises_from_step_to_step() -> None:
    values = temperatures(0.4)
    assert values[:4] == pytest.approx([0.01, 0.02, 0.03, 0.04]) and set(values[4:]) == {0.04}


def test_whole_epochs_rise_from_epoch_to_epoch() -> None:
    values = temperatures(2)
    assert values == [0.01] * 10 + [0.04] * 30 == temperatures(2.0)


@pytest.mark.parametrize(("frozen", "steps"), [(1, 10), (0.5, 5), (0.25, 3), (0, 0)])
def test_the_last_layer_is_frozen_for_a_share_of_an_epoch(frozen: float, steps: int) -> None:
    plan = schedules(optimizer={"freeze_last_layer": frozen, "warmup_epochs": 0})
    model = build_method(
        parse(Pretrain, TINY | {"epochs": 20, "optimizer": {"freeze_last_layer": frozen}}, "pretrain"), 0
    )
    weight = model.student.head.last_layer.weight_v
    left = []
    for step in range(40):
        weight.grad = torch.ones_like(weight)
        model.drop_gradients(plan.epochs_done(step))
        left.append(weight.grad is not None)
    assert left == [False] * steps + [True] * (40 - steps)


@pytest.mark.parametrize("epochs", [1, 1.0])
def test_whole_epochs_are_written_as_before(epochs: float) -> None:
    settings = parse(Pretrain, {"dataset": "x", "optimizer": {"freeze_last_layer": epochs}}, "pretrain")
    assert '"freeze_last_layer":1,' in settings.model_dump_json()
