"""Linear classifiers on fixed features: one for each seed, trained side by side."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from scfs.config.evaluation import Probe
from scfs.data.image_set import ImageSet
from scfs.errors import ScfsError
from scfs.evaluation.subsets import validation_split
from scfs.io.progress import log
from scfs.runtime import collectives
from scfs.training.optimizer import eager

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
        self.step_count, self.steps, self._sound = 0, steps, True
        self.optimizer = eager(torch.optim.SGD)([self.weight, self.bias], lr=self.peak, momentum=0.9)

    def logits(self, features: Tensor) -> Tensor:
        """Scores (S, B, K) of features (B, C), the same for all, or (S, B, C)."""
        return features @ self.weight.mT + self.bias

    def step(self, features: Tensor, labels: Tensor, kept: Tensor | None = None) -> None:
        """Take one step on features (B, C) or (S, B, C) with labels (B,) or (S, B).

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
        """True if all weights are finite, and all scores that `accuracy` saw."""
        return self._sound and bool(torch.isfinite(self.weight).all() and torch.isfinite(self.bias).all())

    @torch.no_grad()
    def accuracy(self, features: Tensor, labels: Tensor) -> np.ndarray:
        """Top-1 in percent (S,) on features (n, C) with labels (n,)."""
        correct = torch.zeros(len(self.weight), dtype=torch.int64)
        for part, truth in zip(features.split(EVALUATED), labels.split(EVALUATED), strict=True):
            scores = self.logits(part.to(self.weight.device))
            self._sound = self._sound and bool(torch.isfinite(scores).all())
            correct += (scores.argmax(2).cpu() == truth).sum(1)
        return 100.0 * np.asarray(correct, dtype=np.float64) / len(labels)


def summary(top1: Sequence[np.ndarray], seeds: Sequence[int]) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Give the values for tables and a list by seed, from the accuracies (S,) after each epoch.

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


class LrGrid:
    """Classifiers of every rate: on all images those that are reported, without the validation ones those that choose.

    No two share a parameter, so each trains as it would alone. Without `lr_sweep` there are those of `lr` alone.
    """

    def __init__(self, protocol: Probe, train: ImageSet, channels: int, device: torch.device) -> None:
        """Draw the classifiers for features of width `channels` of the images of `train`.

        Raises:
            ScfsError: a class has too few images to hold one out.
        """
        self.protocol = protocol
        self.rates = protocol.lr_sweep or (protocol.lr,)
        classes, steps = len(train.classes), protocol.epochs * math.ceil(len(train) / protocol.batch)
        self.reported = [Classifiers(channels, classes, protocol, steps, device, lr) for lr in self.rates]
        self.choosing = [Classifiers(channels, classes, protocol, steps, device, lr) for lr in protocol.lr_sweep]
        self._kept = torch.ones(len(train), dtype=torch.bool)
        if self.choosing:
            self._kept = torch.from_numpy(~validation_split(train, protocol.validation, protocol.seeds[0]))
        self._top1: list[np.ndarray] = []

    def step(self, features: Tensor, labels: Tensor, rows: Tensor) -> None:
        """Take one step with all, on features (B, C) or (S, B, C) of the images `rows`, (B,) or (S, B) as `labels`."""
        for classifiers in collectives.round_robin(self.reported):
            classifiers.step(features, labels)
        kept = self._kept[rows].to(labels.device) if self.choosing else None
        for classifiers in collectives.round_robin(self.choosing):
            classifiers.step(features, labels, kept)

    def test(self, features: Tensor, labels: Tensor) -> None:
        """Record the accuracies after an epoch on the test split: features (n, C), labels (n,)."""
        own = [classifiers.accuracy(features, labels) for classifiers in collectives.round_robin(self.reported)]
        self._top1.append(np.stack(collectives.gather_round_robin(own)))

    def result(
        self, features_of: Callable[[npt.NDArray[np.int64]], Tensor], labels: Tensor
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """Give the values for tables and the details, after the last epoch.

        Args:
            features_of: gives the features (m, C) of the clean views of some rows (m,) of the train split.
            labels: of the train split, (n,).

        Raises:
            ScfsError: the classifiers of the rate, or of all rates, diverged.
        """
        if not self.choosing:
            finite = [classifiers.is_finite() for classifiers in collectives.round_robin(self.reported)]
            if not all(collectives.gather_round_robin(finite)):
                raise ScfsError(f"lr = {self.protocol.lr}: the classifiers diverged: give a lower rate")
            values, seeds = summary([top1[0] for top1 in self._top1], self.protocol.seeds)
            return values, {"seeds": seeds}
        rows = np.flatnonzero(~self._kept.numpy())
        features, labels = features_of(rows), labels[rows]
        own = [self._tried(index, features, labels) for index in collectives.round_robin(range(len(self.rates)))]
        tried = collectives.gather_round_robin(own)
        sound = [index for index, each in enumerate(tried) if "held_out_top1" in each]
        if not sound:
            raise ScfsError(f"lr_sweep = {list(self.rates)}: the classifiers of all rates diverged: give lower rates")
        best = min(sound, key=lambda index: (-tried[index]["held_out_top1"], self.rates[index]))
        lr = self.rates[best]
        log(f"chosen: lr {lr:g}: top1 {tried[best]['held_out_top1']:.2f} on {len(labels)} validation images")
        if lr in (min(self.rates), max(self.rates)):
            log(f"warning: the chosen lr = {lr:g} is at the edge of the grid {sorted(self.rates)}")
        values, seeds = summary([top1[best] for top1 in self._top1], self.protocol.seeds)
        grid = {"lr": lr, "held_out_images": len(labels), "tried": tried}
        return values, {"seeds": seeds, "sweep": grid}

    def _tried(self, index: int, features: Tensor, labels: Tensor) -> dict[str, Any]:
        """Give a rate and its validation accuracy, mean over the seeds; or that it diverged, in either training."""
        top1 = self.choosing[index].accuracy(features, labels)
        if not (self.choosing[index].is_finite() and self.reported[index].is_finite()):
            return {"lr": self.rates[index], "diverged": True}
        return {"lr": self.rates[index], "held_out_top1": float(top1.mean())}
