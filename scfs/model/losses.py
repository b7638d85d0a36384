"""Losses of the paper (Eq. 1-4, 9); scfs.model.methods.scfs sums them over layers (Eq. 10, 11).

Shapes: B images, N local crops, G searched views, K prototypes, D outputs of a search head. Crops are crop-major: all
images of the first crop, then all of the second. Temperatures: tau is the student's, tau' the teacher's.

The equations sum over pairs and crops, the authors' code takes means: `reduction` says which. The loss is always a mean
over the images. Trainings compute Eq. 4 by its fast form, scfs.model.ops.prototype_loss; `data_loss` here is the
definition, and tests/model/test_prototype_loss.py holds them together.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Reduction = Literal["mean", "sum"]


@dataclass(frozen=True)
class Preset:
    """Choices in Eq. 2, 3 and 9-11 where the paper and the authors' code differ."""

    searched_views: int
    """Number of global crops that are searched: the first, or both (g = 1, 2 in Eq. 9)."""
    reduction: Reduction
    """Mean or sum over pairs and crops."""
    layer_weights: tuple[float, float]
    """Weights of a layer's global and search term."""


PRESETS = {
    "official": Preset(searched_views=1, reduction="mean", layer_weights=(0.5, 0.5)),
    "paper": Preset(searched_views=2, reduction="sum", layer_weights=(0.0, 1.0)),
}
"""official: the authors' code, which the reported numbers most likely used. paper: the equations read literally."""


def _precise(x: Tensor) -> Tensor:
    """Convert to float32 at least, since a softmax over many classes is meaningless in bf16."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def log_probabilities(student_outputs: Tensor, temperature: float) -> Tensor:
    """Compute log P of Eq. 1 from outputs (n, K): (n, K)."""
    return F.log_softmax(_precise(student_outputs) / temperature, dim=-1)


def teacher_probabilities(outputs: Tensor, center: Tensor, temperature: float) -> Tensor:
    """Compute P' of Eq. 1 with DINO's centring: softmax((outputs - center) / tau'), (n, K)."""
    return F.softmax((_precise(outputs) - center) / temperature, dim=-1)


def global_loss(student_outputs: Tensor, targets: Tensor, temperature: float, reduction: Reduction) -> Tensor:
    """Compute L_g (Eq. 2): each of the two global crops against the teacher's probabilities of the other one.

    Args:
        student_outputs: (2*B, K).
        targets: the teacher's probabilities, (2*B, K).
        temperature: tau.
        reduction: mean or sum over the two pairs.
    """
    other_view = targets.roll(len(targets) // 2, dims=0)
    total = -(log_probabilities(student_outputs, temperature) * other_view).sum(-1).mean()
    return total if reduction == "mean" else 2 * total


def local_loss(student_outputs: Tensor, targets: Tensor, temperature: float, reduction: Reduction) -> Tensor:
    """Compute L_l (Eq. 3): each local crop against the teacher's probabilities of both global crops.

    Args:
        student_outputs: (N*B, K).
        targets: the teacher's probabilities, (2*B, K).
        temperature: tau.
        reduction: mean or sum over the 2*N pairs.
    """
    first, second = targets.chunk(2)
    log_p = log_probabilities(student_outputs, temperature).view(-1, *first.shape)  # N, B, K
    total = -(log_p.sum(0) * (first + second)).sum(-1).mean()  # both targets at once
    return total if reduction == "sum" else total / (2 * len(log_p))


def data_loss(
    student_global: Tensor,
    student_local: Tensor | None,
    targets: Tensor,
    temperature: float,
    reduction: Reduction = "mean",
) -> Tensor:
    """Compute the contrast between data augmentations, L_d = L_g + L_l (Eq. 4): the definition.

    Trainings call `prototype_loss`, which gives the same loss without the logits.

    Args:
        student_global: (2*B, K).
        student_local: (N*B, K); None for N = 0.
        targets: the teacher's probabilities of the two global crops, (2*B, K).
        temperature: tau.
        reduction: mean or sum over the 2 + 2*N pairs.
    """
    total = global_loss(student_global, targets, temperature, "sum")
    pairs = 2
    if student_local is not None:
        total = total + local_loss(student_local, targets, temperature, "sum")
        pairs += 4 * len(student_local) // len(targets)
    return total if reduction == "sum" else total / pairs


def search_loss(
    student_outputs: Tensor,
    searched_outputs: Tensor,
    temperature: float,
    teacher_temperature: float,
    reduction: Reduction = "mean",
    mask: Tensor | None = None,
    normalizer: Tensor | None = None,
) -> Tensor:
    """Compute the contrast between data and feature augmentations of one layer (Eq. 9).

    Args:
        student_outputs: head outputs of the N crops that searched, (N, B, D).
        searched_outputs: the teacher head's outputs of what they found in G views, (N, G, B, D); they are not centred.
        temperature: tau.
        teacher_temperature: tau'.
        reduction: mean or sum over crops and searched views.
        mask: (N, G, B) bool, true for the terms that count. None: all count.
        normalizer: number of terms that a mean divides by. None: the number of true values in the mask.
    """
    targets = F.softmax(_precise(searched_outputs) / teacher_temperature, dim=-1)
    cross_entropy = -(targets * log_probabilities(student_outputs, temperature)[:, None]).sum(-1)  # N, G, B
    mask = torch.ones_like(cross_entropy) if mask is None else mask.to(cross_entropy.dtype)
    total = (cross_entropy * mask).sum()
    if reduction == "sum":
        return total / cross_entropy.shape[-1]
    return total / (mask.sum().clamp_min(1) if normalizer is None else normalizer.to(total.dtype))


def batch_mean(teacher_outputs: Tensor) -> Tensor:
    """Average the teacher's outputs of the global crops, (2*B, K) -> (1, K), without gradient."""
    return _precise(teacher_outputs.detach()).mean(0, keepdim=True)


def updated_center(center: Tensor, mean: Tensor, momentum: float) -> Tensor:
    """Compute the moving average of the batch means of the teacher's outputs, (1, K) each (Caron et al., Eq. 4)."""
    return center * momentum + mean * (1 - momentum)


def entropy(probabilities: Tensor) -> Tensor:
    """Compute the mean entropy of rows (n, K) in nats: ln K if they are uniform, 0 if each is a single class."""
    return -torch.xlogy(probabilities, probabilities).sum(-1).mean()
