"""Optimiser, parameter groups and per-parameter clipping."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from scfs.config.pretrain import Optimizer
from scfs.training.lars import LARS
from scfs.training.sgd import SGD


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """Two groups: first matrices and kernels, which decay; then biases and norms, which do not (authors' code)."""
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    decayed = [p for name, p in trained if p.ndim > 1 and not name.endswith(".bias")]
    plain = [p for name, p in trained if p.ndim <= 1 or name.endswith(".bias")]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


def build_optimizer(model: nn.Module, settings: Optimizer) -> torch.optim.Optimizer:
    """Optimiser of the model's trained parameters; the loop sets rate and weight decay before each step."""
    groups = parameter_groups(model, settings.weight_decay)
    if settings.name == "lars":
        return LARS(groups, lr=0.0, momentum=settings.momentum)
    if settings.name == "adamw":
        return torch.optim.AdamW(groups, lr=0.0, foreach=True)
    return SGD(groups, settings.momentum)


@torch.no_grad()
def clip_each(parameters: Iterable[Tensor], limit: float) -> list[Tensor]:
    """Scale each gradient on its own by min(1, limit / (norm + 1e-6)), in place.

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
