"""Convolutions that are matrix products on a CPU: those with 1 x 1 kernels, and those whose result is a small map.

On one thread of a CPU, PyTorch's own 1 x 1 convolution takes up to twice the time, forward and backward, in either
precision, and more with a stride.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from scfs.runtime.device import autocast_device_type


def conv2d(x: Tensor, convolution: nn.Conv2d) -> Tensor:
    """Apply `convolution`, which has no bias, to maps (n, C, H, W)."""
    if not _is_product(x, convolution):
        small = im2col_is_faster(x, convolution) and not _is_cast(x)
        made: Tensor = im2col_conv2d(x, convolution) if small else convolution(x)
        return made
    across, down = convolution.stride[1], convolution.stride[0]
    rows = x.permute(0, 2, 3, 1)[:, ::down, ::across]
    return _product(rows.contiguous(), convolution.weight.flatten(1))


def conv1x1_with_residual(x: Tensor, convolution: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Return maps (n, C, H, W) for a residual connection, and `convolution` of them for the branch beside it.

    If the convolution is a matrix product, that product also adds both gradients, which saves a pass over the maps.
    """
    whole = convolution.stride == (1, 1) and not _is_cast(x)
    if not (whole and torch.is_grad_enabled() and x.requires_grad and _is_product(x, convolution)):
        return x, conv2d(x, convolution)
    residual, made = _Conv1x1WithResidual.apply(x, convolution.weight.flatten(1).to(x.dtype))
    return residual, made


class _Conv1x1WithResidual(torch.autograd.Function):
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
        # In place: the branch got the same tensor as its gradient, but its backward pass has ended before this one.
        of_x = of_residual.contiguous(memory_format=torch.channels_last)
        of_x.permute(0, 2, 3, 1).view(rows.shape).addmm_(of_rows, weight)
        return of_x, of_rows.T @ rows


def _product(rows: Tensor, weight: Tensor) -> Tensor:
    """Multiply (n, H, W, C) by a kernel (D, C): maps (n, D, H, W) in channels_last."""
    return F.linear(rows, weight).permute(0, 3, 1, 2)


def _is_product(x: Tensor, convolution: nn.Conv2d) -> bool:
    alone = convolution.kernel_size == (1, 1) and convolution.padding == (0, 0) and convolution.groups == 1
    return alone and x.device.type == "cpu" and x.is_contiguous(memory_format=torch.channels_last)


def _is_cast(x: Tensor) -> bool:
    """True if autocast computes with another type than that of the maps."""
    kind = autocast_device_type(x)
    return torch.is_autocast_enabled(kind) and x.dtype != torch.get_autocast_dtype(kind)


def im2col_is_faster(x: Tensor, convolution: nn.Conv2d) -> bool:
    """True if `im2col_conv2d` can compute this convolution of maps (n, C, H, W), and is faster."""
    kernel, stride, padding = convolution.kernel_size, convolution.stride, convolution.padding
    plain = convolution.groups == 1 and convolution.dilation == (1, 1) and convolution.padding_mode == "zeros"
    if isinstance(padding, str) or not plain or any(pair[0] != pair[1] for pair in (kernel, stride, padding)):
        return False
    onto = max(x.shape[2:]) + 2 * padding[0] - kernel[0]
    on_cpu = x.device.type == "cpu" and x.is_contiguous(memory_format=torch.channels_last)
    return on_cpu and 0 <= onto < kernel[0] * stride[0]


def im2col_conv2d(x: Tensor, convolution: nn.Conv2d) -> Tensor:
    """Apply `convolution` to maps (n, C, H, W) in channels_last as a matrix product; see `im2col_is_faster`."""
    kernel, stride, padding = convolution.kernel_size[0], convolution.stride[0], int(convolution.padding[0])
    made: Tensor = _Im2colConv2d.apply(x, convolution.weight.to(x.dtype), kernel, stride, padding)
    return made


class _Im2colConv2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.shape = kernel, stride, padding
        patches = _patches(x, kernel, stride, padding)
        n, H, W = patches.shape[:3]
        with torch.autocast(x.device.type, enabled=False):
            made = patches.reshape(n * H * W, -1) @ _matrix(weight).T
        return made.view(n, H, W, -1).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, None, None, None]:
        x, weight = ctx.saved_tensors
        kernel, stride, padding = ctx.shape
        n, D, H, W = grad.shape
        of_made = grad.permute(0, 2, 3, 1).reshape(-1, D)
        patches = _patches(x, kernel, stride, padding)
        of_matrix = of_made.T @ patches.reshape(n * H * W, -1)
        of_weight = of_matrix.view(D, kernel, kernel, -1).permute(0, 3, 1, 2)
        if not ctx.needs_input_grad[0]:
            return None, of_weight, None, None, None
        of_patches = (of_made @ _matrix(weight)).view(patches.shape)
        of_x = _folded(of_patches, x, stride, padding)
        return of_x, of_weight, None, None, None


def _matrix(weight: Tensor) -> Tensor:
    """View a kernel (D, C, k, k), in channels_last, as (D, k*k*C)."""
    return weight.permute(0, 2, 3, 1).flatten(1)


def _patches(x: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """View padded maps (n, C, H, W) as the patch of each position of the result, (n, H', W', k, k, C) (im2col)."""
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, *[padding] * 4))
    return padded.unfold(1, kernel, stride).unfold(2, kernel, stride).permute(0, 1, 2, 4, 5, 3)


def _folded(patches: Tensor, like: Tensor, stride: int, padding: int) -> Tensor:
    """Sum patches (n, H', W', k, k, C) into maps (n, C, H, W), in float32 at least (col2im)."""
    n, C, height, width = like.shape
    H, W, kernel = patches.shape[1:4]
    sums = torch.zeros(
        n, height + 2 * padding, width + 2 * padding, C, dtype=torch.promote_types(like.dtype, torch.float32)
    )
    for row in range(kernel):
        for column in range(kernel):
            rows, columns = slice(row, row + stride * H, stride), slice(column, column + stride * W, stride)
            sums[:, rows, columns] += patches[:, :, :, row, column]
    inner = sums[:, padding : padding + height, padding : padding + width]
    return inner.to(like.dtype).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
