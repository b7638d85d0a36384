"""SGD in one pass over weights, gradients and momentum, by torch's fused kernels."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class SGD(torch.optim.SGD):
    """torch.optim.SGD, fused, for parameters that may get their first gradient later than others."""

    def __init__(self, groups: list[dict[str, Any]], momentum: float) -> None:
        """Take parameter groups with their weight decay; the rate is set before each step."""
        super().__init__(groups, lr=0.0, momentum=momentum, fused=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._prepare(parameter, parameter.grad, group["momentum"])
        return super().step(closure)

    def _prepare(self, parameter: Tensor, gradient: Tensor, momentum: float) -> None:
        """The kernel wants equal strides, and momentum for all or none, where the last layer joins late."""
        if _order(gradient) != _order(parameter):
            parameter.grad = torch.empty_like(parameter).copy_(gradient)
        elif gradient.stride() != parameter.stride():  # of dimensions of one entry, where they mean nothing
            parameter.grad = gradient.as_strided(parameter.shape, parameter.stride())
        if momentum and self.state[parameter].get("momentum_buffer") is None:
            # After the first step it holds the gradient, which is what torch begins with.
            self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def _order(tensor: Tensor) -> list[int]:
    """Strides of the dimensions that have more than one entry."""
    return [stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if size > 1]
