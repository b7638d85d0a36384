"""Convolutions as the product computes them: those of 1 x 1, and onto small maps, are matrix products on a CPU.

On one thread of a CPU, PyTorch's own 1 x 1 convolution is up to twice as slow, forward and backward, at either
precision, and those with a stride more (docs/performance.md).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from scfs.device import autocast_kind
from scfs.model.unfolded import is_onto_small_maps, unfolded


def convolved(x: Tensor, convolution: nn.Conv2d) -> Tensor:
    """What `convolution`, which has no bias, makes of maps (n, C, H, W)."""
    if not _is_product(x, convolution):
        small = is_onto_small_maps(x, convolution) and not _is_cast(x)
        made: Tensor = unfolded(x, convolution) if small else convolution(x)
        return made
    across, down = convolution.stride[1], convolution.stride[0]
    rows = x.permute(0, 2, 3, 1)[:, ::down, ::across]
    return _product(rows.contiguous(), convolution.weight.flatten(1))


def forked(x: Tensor, convolution: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Maps (n, C, H, W) for a residual connection, and what `convolution` makes of them for the branch beside it.

    Where the convolution is a product, so is the sum of both gradients: a pass over the maps less.
    """
    whole = convolution.stride == (1, 1) and not _is_cast(x)
    if not (whole and torch.is_grad_enabled() and x.requires_grad and _is_product(x, convolution)):
        return x, convolved(x, convolution)
    residual, made = _Forked.apply(x, convolution.weight.flatten(1).to(x.dtype))
    return residual, made


class _Forked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, weight)
        with torch.autocast(x.device.type, enabled=False):
            return x.view_as(x), _product(x.permute(0, 2, 3, 1), weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_residual: Tensor, of_made: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        rows, of_rows = (maps.permute(0, 2, 3, 1).flatten(0, 2) for maps in (x, of_made))
        # In place: a sum gives the same gradient to the branch, whose backward pass has ended before this one; nobody
        # else may hold it.
        of_x = of_residual.contiguous(memory_format=torch.channels_last)
        of_x.permute(0, 2, 3, 1).view(rows.shape).addmm_(of_rows, weight)
        return of_x, of_rows.T @ rows


def _product(rows: Tensor, weight: Tensor) -> Tensor:
    """Of (n, H, W, C) and a kernel (D, C): maps (n, D, H, W) in channels_last."""
    return F.linear(rows, weight).permute(0, 3, 1, 2)


def _is_product(x: Tensor, convolution: nn.Conv2d) -> bool:
    alone = convolution.kernel_size == (1, 1) and convolution.padding == (0, 0) and convolution.groups == 1
    return alone and x.device.type == "cpu" and x.is_contiguous(memory_format=torch.channels_last)


def _is_cast(x: Tensor) -> bool:
    """Whether autocast computes with maps of another type."""
    kind = autocast_kind(x)
    return torch.is_autocast_enabled(kind) and x.dtype != torch.get_autocast_dtype(kind)
