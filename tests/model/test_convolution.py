"""1 x 1 convolutions as products, against PyTorch's convolution."""

import pytest
import torch
from torch import nn

from scfs.model import convolution as module
from scfs.model.convolution import convolved

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
