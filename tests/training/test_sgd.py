"""The fused SGD against torch's plain one: parameters that join late, memory formats, resuming."""

import copy

import pytest
import torch
from torch import Tensor, nn

from scfs.training.optimizer import SGD, clip_per_parameter

SHAPES = [(4, 3, 3, 3), (5, 4), (7,)]


def parameters() -> list[nn.Parameter]:
    torch.manual_seed(0)
    values = [torch.randn(shape, dtype=torch.float64) for shape in SHAPES]
    values[0] = values[0].to(memory_format=torch.channels_last)
    return [nn.Parameter(value) for value in values]


def groups(values: list[nn.Parameter]) -> list[dict]:
    return [{"params": values[:2], "weight_decay": 0.1}, {"params": values[2:], "weight_decay": 0.0}]


def give_gradients(values: list[nn.Parameter], step: int) -> None:
    """To all but the second one, which joins at step 2; in the order of indices, whatever the parameter's is."""
    for index, value in enumerate(values):
        value.grad = None
        if index != 1 or step >= 2:
            generator = torch.Generator().manual_seed(10 * step + index)
            value.grad = torch.randn(value.shape, dtype=value.dtype, generator=generator)


def moved(values: list[nn.Parameter], optimizer: torch.optim.Optimizer, steps: range) -> list[Tensor]:
    for step in steps:
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * (step + 1)
        give_gradients(values, step)
        optimizer.step()
    return [value.detach().clone() for value in values]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_steps_are_those_of_plain_sgd(momentum: float) -> None:
    ours, plain = parameters(), parameters()
    expected = moved(plain, torch.optim.SGD(groups(plain), lr=0, momentum=momentum, foreach=False), range(5))
    for one, other in zip(moved(ours, SGD(groups(ours), momentum), range(5)), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert not torch.equal(ours[1], parameters()[1])


def test_a_resumed_optimiser_goes_on_with_the_same_bits() -> None:
    whole = parameters()
    expected = moved(whole, SGD(groups(whole), 0.9), range(5))
    values = parameters()
    first = SGD(groups(values), 0.9)
    moved(values, first, range(2))
    second = SGD(groups(values), 0.9)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for one, other in zip(moved(values, second, range(2, 5)), expected, strict=True):
        assert torch.equal(one, other)


def test_the_state_of_the_unfused_form_can_be_resumed() -> None:
    """What checkpoints of before hold."""
    values, expected = parameters(), parameters()
    plain = torch.optim.SGD(groups(expected), lr=0, momentum=0.9, foreach=True)
    moved(expected, plain, range(2))
    for value, other in zip(values, expected, strict=True):
        value.data.copy_(other)
    ours = SGD(groups(values), 0.9)
    ours.load_state_dict(copy.deepcopy(plain.state_dict()))
    for one, other in zip(moved(values, ours, range(2, 4)), moved(expected, plain, range(2, 4)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("limit", [1e-3, 2.0, 1e3])
def test_clipping_leaves_what_is_within_the_limit(limit: float) -> None:
    values = parameters()
    give_gradients(values, 2)
    before = [value.grad.clone() for value in values]  # type: ignore[union-attr]
    norms = clip_per_parameter(values, limit)
    for value, gradient, norm in zip(values, before, norms, strict=True):
        assert norm == pytest.approx(gradient.norm().item())
        assert value.grad is not None
        if norm + 1e-6 <= limit:
            assert torch.equal(value.grad, gradient)
        else:
            torch.testing.assert_close(value.grad, gradient * limit / (norm + 1e-6))


def test_a_gradient_that_is_not_finite_stays_so() -> None:
    values = parameters()
    give_gradients(values, 2)
    values[0].grad[0, 0, 0, 0] = float("nan")  # type: ignore[index]
    clip_per_parameter(values, 1e3)
    assert not torch.isfinite(values[0].grad).any() and torch.isfinite(values[1].grad).all()  # type: ignore[arg-type]
