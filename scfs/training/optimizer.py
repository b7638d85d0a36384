"""Optimiser, parameter groups and per-parameter clipping."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from scfs.config.pretrain import Optimizer

LAST_LAYER = "head.last_layer."
"""Beginning of the names of the projection head's last layer."""


def parameter_groups(model: nn.Module, settings: Optimizer) -> list[dict]:
    """Make two groups: first matrices and kernels, which decay; then biases and norms, which do not (authors' code).

    The projection head's last layer is a third, with the factor of its rate as `rate`, where it has its own settings.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    own = settings.last_layer_lr, settings.last_layer_weight_decay
    last = [trained.pop(name) for name in list(trained) if name.startswith(LAST_LAYER)] if own != (1.0, None) else []
    decayed = [p for name, p in trained.items() if p.ndim > 1 and not name.endswith(".bias")]
    plain = [p for name, p in trained.items() if p.ndim <= 1 or name.endswith(".bias")]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    decay = settings.weight_decay if settings.last_layer_weight_decay is None else settings.last_layer_weight_decay
    return groups + ([{"params": last, "weight_decay": decay, "rate": settings.last_layer_lr}] if last else [])


def set_rates(optimizer: torch.optim.Optimizer, settings: Optimizer, lr: float, weight_decay: float) -> None:
    """Give the groups of `parameter_groups` the rate and the weight decay of a step."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("rate", 1.0)
    decaying = slice(0, None, 2) if settings.last_layer_weight_decay is None else slice(0, 1)
    for group in optimizer.param_groups[decaying]:
        group["weight_decay"] = weight_decay


Kind = TypeVar("Kind", bound=type[torch.optim.Optimizer])


def eager(kind: Kind) -> Kind:
    """Make a subclass whose methods are those of `kind` without the decorators that import torch's compiler.

    An optimiser is never compiled here, and that import takes each process seconds. `inspect.unwrap` gives a method
    that has no decorator back as it is.
    """
    names = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in names}
    made: Any = type(kind.__name__, (kind,), {**methods, "step": torch.no_grad()(inspect.unwrap(kind.step))})
    return made


def build_optimizer(model: nn.Module, settings: Optimizer) -> torch.optim.Optimizer:
    """Make the optimiser of the model's trained parameters; the loop sets rate and weight decay before each step."""
    groups = parameter_groups(model, settings)
    if settings.name == "lars":
        return LARS(groups, lr=0.0, momentum=settings.momentum)
    if settings.name == "adamw":
        return eager(torch.optim.AdamW)(groups, lr=0.0, foreach=True)
    return SGD(groups, settings.momentum)


@torch.no_grad()
def clip_per_parameter(parameters: Iterable[Tensor], limit: float) -> list[Tensor]:
    """Clip each gradient on its own, in place: times min(1, limit / (norm + 1e-6)) (authors' code).

    Returns:
        The norms before clipping, on the parameters' device (no synchronisation).
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return []
    norms = list(torch._foreach_norm(gradients))
    scales = list(torch._foreach_add(norms, 1e-6))
    torch._foreach_reciprocal_(scales)
    torch._foreach_mul_(scales, limit)
    if norms[0].device.type == "cpu":  # where looking at a norm waits for nothing, and few are above the limit
        above = [index for index, scale in enumerate(torch.stack(scales).tolist()) if not scale >= 1]
        gradients, scales = [gradients[index] for index in above], [scales[index] for index in above]
    if gradients:
        torch._foreach_clamp_max_(scales, 1.0)
        torch._foreach_mul_(gradients, scales)
    return norms


class SGD(eager(torch.optim.SGD)):  # type: ignore[misc]
    """torch.optim.SGD, fused, for parameters that may get their first gradient later than others."""

    def __init__(self, groups: list[dict[str, Any]], momentum: float) -> None:
        """Take parameter groups with their weight decay; the rate is set before each step."""
        super().__init__(groups, lr=0.0, momentum=momentum, fused=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._prepare(parameter, parameter.grad, group["momentum"])
        return super().step(closure)

    def _prepare(self, parameter: Tensor, gradient: Tensor, momentum: float) -> None:
        """Give the fused kernel equal strides, and momentum for all: the last layer, frozen at first, joins late."""
        if _order(gradient) != _order(parameter):
            parameter.grad = torch.empty_like(parameter).copy_(gradient)
        elif gradient.stride() != parameter.stride():  # of dimensions of one entry, where they mean nothing
            parameter.grad = gradient.as_strided(parameter.shape, parameter.stride())
        if momentum and self.state[parameter].get("momentum_buffer") is None:
            # After the first step it holds the gradient, which is what torch begins with.
            self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def _order(tensor: Tensor) -> list[int]:
    """Return the strides of the dimensions that have more than one entry."""
    return [stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if size > 1]


class LARS(eager(torch.optim.Optimizer)):  # type: ignore[misc]
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
    def step(self, closure: Callable[[], float] | None = None) -> None:
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
