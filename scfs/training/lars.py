"""LARS: SGD with momentum whose rate is scaled layer by layer (You et al., 2017), as the authors' code has it."""

from collections.abc import Callable, Iterable
from typing import Any

import torch


class LARS(torch.optim.Optimizer):
    """A matrix w with gradient g, weight decay added, moves by lr * eta * |w| / |g| along g; a 1-d parameter plainly.

    Args:
        params: parameters or groups; a group's `weight_decay` is not applied to its 1-d parameters.
        lr: learning rate.
        weight_decay: default of the groups.
        momentum: of the scaled gradients.
        eta: trust coefficient.
    """

    def __init__(
        self, params: Iterable[Any], lr: float, weight_decay: float = 0.0, momentum: float = 0.9, eta: float = 0.001
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "eta": eta})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient; no value leaves the device."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                update = parameter.grad
                if parameter.ndim != 1:
                    update = update.add(parameter, alpha=group["weight_decay"])
                    length, update_length = parameter.norm(), update.norm()
                    scale = group["eta"] * length / update_length
                    update = update * torch.where((length > 0) & (update_length > 0), scale, torch.ones_like(scale))
                state = self.state[parameter]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(parameter)
                state["momentum_buffer"].mul_(group["momentum"]).add_(update)
                parameter.add_(state["momentum_buffer"], alpha=-group["lr"])
