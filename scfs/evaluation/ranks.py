"""The rank of the true class among the scores of all classes."""

import torch
from torch import Tensor


def ranks_of_true_class(scores: Tensor, labels: Tensor) -> Tensor:
    """Count the classes, (B,), that score higher than the true one, or the same with a lower class number.

    Args:
        scores: (B, K).
        labels: (B,).
    """
    true = scores.gather(1, labels[:, None])
    before = torch.arange(scores.shape[1], device=scores.device) < labels[:, None]
    return ((scores > true) | ((scores == true) & before)).sum(1)
