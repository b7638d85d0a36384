"""Linear classifiers on fixed features: one for each seed, trained side by side."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from scfs.config.evaluation import Probe

EVALUATED = 4096
"""Features that are classified at a time."""


class Classifiers:
    """S linear classifiers, W ~ N(0, 0.01), b = 0, SGD with momentum 0.9, no weight decay (authors' README).

    The rate is lr * batch / 256 at the start and falls to 0 along half a cosine, step by step. The classifiers share
    no parameter, so each one trains as it would alone.
    """

    def __init__(
        self, channels: int, classes: int, protocol: Probe, steps: int, device: torch.device, lr: float | None = None
    ) -> None:
        """Draw the weights of each of the protocol's seeds for a training of `steps` steps, at `lr` if not its own."""
        drawn = [
            torch.empty(classes, channels).normal_(0, 0.01, generator=torch.Generator().manual_seed(seed))
            for seed in protocol.seeds
        ]
        self.weight = torch.stack(drawn).to(device).requires_grad_()  # S, K, C
        self.bias = torch.zeros(len(drawn), 1, classes, device=device, requires_grad=True)
        self.peak = (lr or protocol.lr) * protocol.batch / 256
        self.step_count, self.steps = 0, steps
        self.optimizer = torch.optim.SGD([self.weight, self.bias], lr=self.peak, momentum=0.9)

    def logits(self, features: Tensor) -> Tensor:
        """Scores (S, B, K) of features (B, C), the same for all, or (S, B, C)."""
        return features @ self.weight.mT + self.bias

    def step(self, features: Tensor, labels: Tensor, kept: Tensor | None = None) -> None:
        """One step on features (B, C) or (S, B, C) with labels (B,) or (S, B).

        The loss is the mean over B, or over those that `kept`, (B,) or (S, B) bool, does not leave out; if that leaves
        out all, a step without a gradient.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.peak * 0.5 * (1 + math.cos(math.pi * self.step_count / self.steps))
        self.step_count += 1
        logits = self.logits(features)
        labels = labels.expand(logits.shape[:2])
        if kept is None:
            loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum") / labels.shape[1]
        else:
            kept = kept.expand(logits.shape[:2])
            losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(kept.shape)
            loss = (losses.where(kept, 0.0).sum(1) / kept.sum(1).clamp(min=1)).sum()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def is_finite(self) -> bool:
        """Whether all weights are."""
        return bool(torch.isfinite(self.weight).all() and torch.isfinite(self.bias).all())

    @torch.no_grad()
    def accuracy(self, features: Tensor, labels: Tensor) -> np.ndarray:
        """Top-1 in percent (S,) on features (n, C) with labels (n,)."""
        device = self.weight.device
        correct = sum(
            (self.logits(part.to(device)).argmax(2).cpu() == truth).sum(1)
            for part, truth in zip(features.split(EVALUATED), labels.split(EVALUATED), strict=True)
        )
        return 100.0 * np.asarray(correct, dtype=np.float64) / len(labels)


def summary(top1: Sequence[np.ndarray], seeds: Sequence[int]) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Values for tables and a list by seed, from the accuracies (S,) after each epoch.

    `top1` is the last epoch's, its mean over seeds; `top1_sd` its sample standard deviation (absent for one seed);
    `best_top1` the mean of each seed's best epoch, which the authors report: it is chosen on the test split.
    """
    by_epoch = np.stack(top1)
    last, best = by_epoch[-1], by_epoch.max(axis=0)
    values = {"top1": float(last.mean()), "best_top1": float(best.mean())}
    if len(seeds) > 1:
        values["top1_sd"] = float(last.std(ddof=1))
    each = [
        {"seed": seed, "top1": float(a), "best_top1": float(b)} for seed, a, b in zip(seeds, last, best, strict=True)
    ]
    return values, each
