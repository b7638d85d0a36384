"""ReLU by integers is ReLU: of every bfloat16 number, of sums, and of their gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from scfs.model.ops.relu import add_relu_, relu_

EVERY = torch.arange(-(2**15), 2**15).to(torch.int16).view(torch.bfloat16)


def _by_torch(x: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    y = F.relu(x)
    y.backward(grad)
    return y.detach(), x.grad


def _ours(x: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    y = relu_(x * 1)
    y.backward(grad)
    return y.detach(), x.grad


def test_every_number_and_nan() -> None:
    made, wanted = relu_(EVERY.clone()), F.relu(EVERY)
    assert EVERY.isnan().sum() == 254 and torch.equal(made.isnan(), EVERY.isnan())
    assert torch.equal(made.nan_to_num(1.0), wanted.nan_to_num(1.0))


def test_nan_of_a_processor_is_not_hidden() -> None:
    infinity = torch.full((3,), torch.inf, dtype=torch.bfloat16)
    assert relu_(infinity - infinity).isnan().all() and relu_(infinity * 0).isnan().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("expanded", [False, True])
def test_gradients_of_maps(dtype: torch.dtype, expanded: bool) -> None:
    x = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(0)).to(dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    x[0, 0, 0, :3] = torch.tensor([0.0, -0.0, torch.inf], dtype=dtype)
    grad = torch.randn((2, 3, 1, 1) if expanded else x.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    grad = grad.expand(x.shape)  # as a mean's
    for ours, wanted in zip(_ours(x, grad), _by_torch(x, grad), strict=True):
        assert torch.equal(ours, wanted) and ours.dtype == dtype


def test_it_is_in_place() -> None:
    for dtype in (torch.bfloat16, torch.float32):
        x = torch.tensor([-1.0, 2.0], dtype=dtype)
        assert relu_(x) is x or relu_(x).data_ptr() == x.data_ptr()
        assert x.tolist() == [0.0, 2.0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1, 16, 33, 65])
def test_sums_and_their_gradients(dtype: torch.dtype, size: int) -> None:
    """NaN and infinity at both ends, where vectors begin and where their rest is."""
    generator = torch.Generator().manual_seed(0)
    branch, residual, grad = (torch.randn(2, 3, 5, size, generator=generator).to(dtype) for _ in range(3))
    for place, added in ((0, -torch.inf), (-1, torch.inf)):
        branch.view(-1)[place], residual.view(-1)[place] = torch.inf, added
    residual.view(-1)[size] = torch.nan
    residual = residual.contiguous(memory_format=torch.channels_last).requires_grad_()
    branch.requires_grad_()
    made, wanted = add_relu_(branch * 1, residual), F.relu(branch + residual)
    torch.testing.assert_close(made, wanted, rtol=0, atol=0, equal_nan=True)
    assert made.isnan().sum() == 2 and made.isinf().sum() == 1
    finite = ~wanted.isnan()
    for one, other in zip(
        torch.autograd.grad((made * grad)[finite].sum(), [branch, residual]),
        torch.autograd.grad((wanted * grad)[finite].sum(), [branch, residual]),
        strict=True,
    ):
        assert torch.equal(one[finite], other[finite])
