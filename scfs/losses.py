"""Losses of the paper (Eq. 1-4, 9-11) in the form of the authors' code: means over pairs, crops and images.

Shapes: B images, V = 2 + N crops, K prototypes, D outputs of a search head. Crops are crop-major: all images of the
first crop, then of the second. Temperatures: tau = student's, tau' = teacher's.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def _precise(x: Tensor) -> Tensor:
    """At least float32: a softmax over many classes is meaningless in bf16."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def teacher_probabilities(outputs: Tensor, center: Tensor, temperature: float) -> Tensor:
    """P' of Eq. 1 with DINO's centring: softmax((outputs - center) / tau'), (n, K)."""
    return F.softmax((_precise(outputs) - center) / temperature, dim=-1)


def data_loss(student_logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Contrast between data augmentations, L_d = L_g + L_l (Eq. 2-4): each target with every *other* crop.

    Args:
        student_logits: (V*B, K), the two global crops first.
        targets: the teacher's probabilities of the two global crops, (2*B, K).
        temperature: tau.

    Returns:
        Scalar: mean of the cross-entropies of the 2*(V-1) pairs and the B images.
    """
    first, second = targets.chunk(2)
    B = len(first)
    log_p = F.log_softmax(_precise(student_logits) / temperature, dim=-1)
    total = (log_p[:B] * second).sum() + (log_p[B : 2 * B] * first).sum()
    locals_ = log_p[2 * B :].view(-1, B, log_p.shape[-1])
    if len(locals_):
        total = total + (locals_.sum(0) * (first + second)).sum()  # both targets at once
    return -total / (2 * (1 + len(locals_)) * B)


def layer_global_loss(student_outputs: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """A layer's two global crops against each other, as L_g in Eq. 2: (2*B, D) and (2*B, D) -> scalar."""
    return data_loss(student_outputs, targets, temperature)


def search_loss(
    student_outputs: Tensor, searched_outputs: Tensor, temperature: float, teacher_temperature: float
) -> Tensor:
    """Contrast between data and feature augmentations of one layer (Eq. 9), over one searched view.

    Args:
        student_outputs: head outputs of the local crops, (N*B, D).
        searched_outputs: the teacher head's outputs of the searched features, (N*B, D); they are not centred.
        temperature: tau.
        teacher_temperature: tau'.

    Returns:
        Scalar: mean cross-entropy over crops and images.
    """
    targets = F.softmax(_precise(searched_outputs) / teacher_temperature, dim=-1)
    return -(targets * F.log_softmax(_precise(student_outputs) / temperature, dim=-1)).sum(-1).mean()


def layer_loss(global_term: Tensor, search_term: Tensor) -> Tensor:
    """Both terms of a layer as the authors' code weighs them."""
    return 0.5 * (global_term + search_term)


def updated_center(center: Tensor, teacher_outputs: Tensor, momentum: float) -> Tensor:
    """Moving average of the batch mean of the teacher's outputs of the global crops (Caron et al., Eq. 4)."""
    return center * momentum + _precise(teacher_outputs).mean(0, keepdim=True) * (1 - momentum)


def entropy(probabilities: Tensor) -> Tensor:
    """Mean entropy of rows in nats: ln K when uniform, 0 when collapsed onto one class."""
    return -torch.xlogy(probabilities, probabilities).sum(-1).mean()
