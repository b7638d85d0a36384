"""1 x 1 convolutions as products, against PyTorch's convolution."""

import pytest
import torch
from torch import nn

from scfs.model import convolution as module
from scfs.model.convolution import convolved, forked

KINDS = {
    "pointwise": {"kernel_size": 1},
    "strided": {"kernel_size": 1, "stride": 2},
    "3 x 3": {"kernel_size": 3, "padding": 1},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_maps_and_gradients_are_those_of_the_convolution(kind: str, memory_format: torch.memory_format) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(5, 4, bias=False, **KINDS[kind]).double().to(memory_format=memory_format)
    x = torch.randn(3, 5, 6, 7, dtype=torch.float64).contiguous(memory_format=memory_format).requires_grad_()
    expected = layer(x)
    upstream = torch.randn_like(expected)
    found = convolved(x, layer)
    assert found.is_contiguous(memory_format=memory_format)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    of_ours, of_theirs = (torch.autograd.grad((y * upstream).sum(), [x, layer.weight]) for y in (found, expected))
    for one, other in zip(of_ours, of_theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_only_pointwise_ones_in_channels_last_are_products(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    pointwise = module.pointwise
    monkeypatch.setattr(module, "pointwise", lambda x, w: calls.append("product") or pointwise(x, w))
    x = torch.randn(2, 5, 6, 7)
    for kind, settings in KINDS.items():
        layer = nn.Conv2d(5, 4, bias=False, **settings)
        convolved(x, layer)
        convolved(x.contiguous(memory_format=torch.channels_last), layer)
        assert len(calls) == 1, kind


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(6, 7), (1, 1)])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_gradients_of_a_residual_block(kind: str, size: tuple[int, int], memory_format: torch.memory_format) -> None:
    """The sum gives one gradient to the residual and to the branch, and the fork adds to it in place."""
    torch.manual_seed(0)
    layer = nn.Conv2d(5, 5, bias=False, **KINDS[kind]).double().to(memory_format=memory_format)
    images = torch.randn(3, 5, *size, dtype=torch.float64).contiguous(memory_format=memory_format).requires_grad_()
    upstream = torch.randn(3, 5, *size, dtype=torch.float64)

    def gradients(fork: bool) -> tuple[torch.Tensor, ...]:
        x = images * 2
        residual, made = forked(x, layer) if fork else (x, layer(x))
        out = made.tanh() * 3
        out = out + residual if out.shape == residual.shape else out.sum() + residual
        total = (out * upstream).sum() + out.mean()  # the mean's gradient is expanded
        return torch.autograd.grad(total, [images, layer.weight])

    for one, other in zip(gradients(True), gradients(False), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_a_fork_without_gradients_is_a_convolution() -> None:
    layer = nn.Conv2d(5, 4, 1, bias=False).to(memory_format=torch.channels_last)
    x = torch.randn(2, 5, 6, 7).contiguous(memory_format=torch.channels_last)
    residual, made = forked(x, layer)
    assert residual is x and torch.equal(made, convolved(x, layer))
    with torch.no_grad():
        assert forked(x.requires_grad_(), layer)[1].requires_grad is False
