"""1 x 1 convolutions as products, against PyTorch's convolution."""

import pytest
import torch
from torch import nn

from scfs.model.ops import convolution as module
from scfs.model.ops.convolution import conv1x1_with_residual, conv2d

KINDS: dict[str, dict[str, int]] = {
    "pointwise": {"kernel_size": 1},
    "strided": {"kernel_size": 1, "stride": 2},
    "3 x 3": {"kernel_size": 3, "padding": 1},
    "3 x 3, strided": {"kernel_size": 3, "padding": 1, "stride": 2},
    "7 x 7, strided": {"kernel_size": 7, "padding": 3, "stride": 2},
}
SIZES = [(6, 7), (3, 3), (2, 3), (1, 1), (6, 5)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_maps_and_gradients_are_those_of_the_convolution(
    kind: str, size: tuple[int, int], memory_format: torch.memory_format
) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(5, 4, bias=False, **KINDS[kind]).double().to(memory_format=memory_format)
    x = torch.randn(3, 5, *size, dtype=torch.float64).contiguous(memory_format=memory_format).requires_grad_()
    expected = layer(x)
    upstream = torch.randn_like(expected)
    found = conv2d(x, layer)
    assert found.is_contiguous(memory_format=memory_format)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    of_ours, of_theirs = (torch.autograd.grad((y * upstream).sum(), [x, layer.weight]) for y in (found, expected))
    for one, other in zip(of_ours, of_theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "size", "how"),
    [
        ("pointwise", 7, "product"),
        ("strided", 7, "product"),
        ("3 x 3", 4, "convolution"),
        ("3 x 3", 3, "im2col_conv2d"),
        ("3 x 3, strided", 6, "im2col_conv2d"),
        ("3 x 3, strided", 7, "convolution"),
    ],
)
def test_what_is_a_product(kind: str, size: int, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("_product", "im2col_conv2d"):
        function = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, f=function, n=name: calls.append(n.strip("_")) or f(*a))
    layer = nn.Conv2d(5, 4, bias=False, **KINDS[kind])
    x = torch.randn(2, 5, size, size)
    conv2d(x, layer)
    assert calls == []
    conv2d(x.contiguous(memory_format=torch.channels_last), layer)
    assert calls == ([] if how == "convolution" else [how])


def test_gradients_in_bfloat16_are_as_exact_as_the_convolutions() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(64, 64, 3, padding=1, bias=False).to(memory_format=torch.channels_last)
    x = torch.randn(8, 64, 3, 3).contiguous(memory_format=torch.channels_last)
    upstream = torch.randn(8, 64, 3, 3)

    def gradients(dtype: torch.dtype, ours: bool) -> tuple[torch.Tensor, ...]:
        given = x.to(dtype).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            made = conv2d(given, layer) if ours else layer(given)
        assert made.dtype == dtype
        return torch.autograd.grad((made * upstream.to(dtype)).sum(), [given, layer.weight])

    for exact, ours, theirs in zip(
        gradients(torch.float32, False), gradients(torch.bfloat16, True), gradients(torch.bfloat16, False), strict=True
    ):
        assert (ours - exact).norm() < 1.2 * (theirs - exact).norm()


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
        residual, made = conv1x1_with_residual(x, layer) if fork else (x, layer(x))
        out = made.tanh() * 3
        out = out + residual if out.shape == residual.shape else out.sum() + residual
        total = (out * upstream).sum() + out.mean()  # the mean's gradient is expanded
        return torch.autograd.grad(total, [images, layer.weight])

    for one, other in zip(gradients(True), gradients(False), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_a_fork_without_gradients_is_a_convolution() -> None:
    layer = nn.Conv2d(5, 4, 1, bias=False).to(memory_format=torch.channels_last)
    x = torch.randn(2, 5, 6, 7).contiguous(memory_format=torch.channels_last)
    residual, made = conv1x1_with_residual(x, layer)
    assert residual is x and torch.equal(made, conv2d(x, layer))
    with torch.no_grad():
        assert conv1x1_with_residual(x.requires_grad_(), layer)[1].requires_grad is False


@pytest.mark.parametrize("size", [3, 7])
def test_float32_maps_under_autocast(size: int) -> None:
    layers = [nn.Conv2d(5, 5, kernel, padding=kernel // 2, bias=False) for kernel in (1, 3)]
    x = torch.randn(2, 5, size, size).contiguous(memory_format=torch.channels_last).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        residual, made = conv1x1_with_residual(x, layers[0].to(memory_format=torch.channels_last))
        made = conv2d(made, layers[1].to(memory_format=torch.channels_last))
    assert made.dtype == torch.bfloat16  # as of a convolution
    (made + residual).sum().backward()
    assert x.grad is not None and x.grad.dtype == torch.float32
