"""BatchNorm over the images of all processes, also on a CPU, where torch's own does not work (Ioffe & Szegedy, 2015).

SynchronizedBatchNorm is used only where there are several processes: a single one keeps nn.BatchNorm.
"""

from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from scfs.runtime import collectives
from scfs.runtime.device import autocast_device_type

M = TypeVar("M", bound=nn.Module)


def _per_channel(values: Tensor, like: Tensor) -> Tensor:
    """Reshape values (C,) to (1, C, 1, ...), so that they broadcast to `like`, (n, C, ...)."""
    return values.view(1, -1, *[1] * (like.ndim - 2))


def merge_statistics(mean: Tensor, squares: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Merge the statistics of all processes: mean and variance, (C,) each, and the number of values per channel.

    Args:
        mean: mean of this process's values, (C,).
        squares: sum of their squared distances from the mean, (C,).
        count: number of this process's values per channel.
    """
    own = torch.cat([mean, squares, mean.new_tensor([count])])
    means, all_squares, counts = collectives.all_gather(own).split([len(mean), len(mean), 1], dim=1)  # W, C; W, C; W, 1
    number = counts.sum()
    whole_mean = (means * counts).sum(0) / number
    # Each process's squares are about its own mean; shifting them to the common mean is stable (Chan et al., 1979).
    variance = (all_squares + counts * (means - whole_mean).square()).sum(0) / number
    return whole_mean, variance, number


def update_running_statistics(norm: _BatchNorm, mean: Tensor, variance: Tensor, number: Tensor) -> None:
    """Count a batch, and move a norm's running mean and unbiased variance towards the batch's statistics."""
    norm.num_batches_tracked.add_(1)  # type: ignore[union-attr]
    norm.running_mean.lerp_(mean, norm.momentum)  # type: ignore[arg-type,union-attr]
    norm.running_var.lerp_(variance * (number / (number - 1)), norm.momentum)  # type: ignore[arg-type,union-attr]


def folded_batch_norm(norm: _BatchNorm, attention: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
    """Fold a BatchNorm of the products A . Z into y = x * scale + shift, without computing the products.

    The running statistics are updated as in a call of the norm. Without gradient.

    Args:
        norm: in train mode.
        attention: A, (B, N, H, W).
        maps: Z, (B, C, H, W).

    Returns:
        Scale and shift, (C,) each, in the norm's precision.
    """
    dtype = torch.promote_types(norm.weight.dtype, attention.dtype)
    z = maps.permute(0, 2, 3, 1).flatten(0, 2).to(dtype)  # P, C with P = B*H*W
    a = attention.to(dtype)
    sums, squares = a.sum(1).flatten(), a.square().sum(1).flatten()  # (P,) each: sums over the crops
    count = a.numel()
    with torch.autocast(autocast_device_type(maps), enabled=False):
        mean = (sums @ z) / count
        # The sum over positions and crops of (A Z - mean)^2.
        about = (squares @ z.square() - count * mean.square()).clamp_min(0)
    whole_mean, variance, number = merge_statistics(mean, about, count)
    update_running_statistics(norm, whole_mean, variance, number)
    scale = norm.weight * torch.rsqrt(variance + norm.eps)
    return scale, norm.bias - whole_mean * scale


class _Normalize(torch.autograd.Function):
    """y = (x - mean) / sqrt(var + eps) * weight + bias, with the gradients through mean and variance."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, number: Tensor, eps: float
    ) -> Tensor:
        deviation = torch.rsqrt(variance + eps)
        ctx.save_for_backward(x, weight, mean, deviation, number)
        scale = deviation * weight
        return ((x - _per_channel(mean, x)) * _per_channel(scale, x) + _per_channel(bias, x)).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, deviation, number = ctx.saved_tensors
        grad = grad.to(weight.dtype)
        normal = (x - _per_channel(mean, x)) * _per_channel(deviation, x)
        dims = [0, *range(2, x.ndim)]
        of_bias, of_weight = grad.sum(dims), (grad * normal).sum(dims)
        # The input's gradient needs both sums over all processes; the parameters' are summed with all the others.
        sums = collectives.all_reduce(torch.stack([of_bias, of_weight])) / number
        centred = grad - _per_channel(sums[0], x) - normal * _per_channel(sums[1], x)
        return (centred * _per_channel(deviation * weight, x)).to(x.dtype), of_weight, of_bias, None, None, None, None


class SynchronizedBatchNorm(_BatchNorm):
    """nn.BatchNorm1d and 2d over the values of all processes, with the same names, buffers and gradients."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"expected (n, C, ...), got {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (n, C, ...) per channel."""
        if not self.training:
            return super().forward(input)
        self._check_input_dim(input)
        with torch.no_grad():
            x, dims = input.to(self.weight.dtype), [0, *range(2, input.ndim)]
            own_mean = x.mean(dims)
            squares = (x - _per_channel(own_mean, x)).square().sum(dims)
            mean, variance, number = merge_statistics(own_mean, squares, x.numel() // x.shape[1])
            update_running_statistics(self, mean, variance, number)
        return _Normalize.apply(input, self.weight, self.bias, mean, variance, number, self.eps)


def synchronize_batch_norm(model: M, device: torch.device, compile: bool = False) -> M:
    """Replace every BatchNorm of a model by one over all processes, in place; a single process changes nothing.

    `compile` says whether the model will be compiled, see `scfs.model.ops.compile`.
    """
    if collectives.world().size == 1:
        return model
    if device.type == "cuda" and not compile:  # torch's own has a fast kernel
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.__class__ = SynchronizedBatchNorm  # type: ignore[assignment]  # with the same parameters and buffers
    return model
