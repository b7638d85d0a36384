"""The projection head's last layer may have a rate and a weight decay of its own; by default it has those of the others."""

import pytest
import torch
from tiny import TINY
from torch import Tensor

from scfs.config.pretrain import Pretrain
from scfs.model.methods import build_method
from scfs.training.optimizer import build_optimizer, set_rates

LAST = "head.last_layer.weight_v"


def moved(lr: float = 0.1, weight_decay: float = 0.5, **changes: float) -> dict[str, Tensor]:
    """How far each parameter moves in one step without gradients but for their weight decay."""
    settings = Pretrain.model_validate(TINY | {"optimizer": {"warmup_epochs": 0, "momentum": 0.0, **changes}})
    torch.manual_seed(0)
    student = build_method(settings, 0).student
    optimizer = build_optimizer(student, settings.optimizer)
    set_rates(optimizer, settings.optimizer, lr, weight_decay)
    before = {name: value.detach().clone() for name, value in student.named_parameters() if value.requires_grad}
    for value in student.parameters():
        value.grad = torch.zeros_like(value) if value.requires_grad else None
    optimizer.step()
    return {
        name: (value.detach() - before[name]) / before[name]
        for name, value in student.named_parameters()
        if name in before
    }


@pytest.mark.parametrize(
    ("changes", "of_last"),
    [
        ({}, 0.1 * 0.5),
        ({"last_layer_lr": 0.2}, 0.2 * 0.1 * 0.5),
        ({"last_layer_weight_decay": 0.1}, 0.1 * 0.1),
        ({"last_layer_weight_decay": 0.0}, 0.0),
        ({"last_layer_lr": 3.0, "last_layer_weight_decay": 0.1}, 3 * 0.1 * 0.1),
    ],
)
def test_the_last_layer_has_its_own(changes: dict[str, float], of_last: float) -> None:
    shares = moved(**changes)
    torch.testing.assert_close(shares[LAST], torch.full_like(shares[LAST], -of_last), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(shares["backbone.conv1.weight"].mean().item(), -0.1 * 0.5, rtol=1e-3, atol=1e-6)
    assert torch.nan_to_num(shares["backbone.bn1.weight"]).abs().max() == 0  # norms never decay
