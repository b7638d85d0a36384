"""Linear probing at one learning rate or at several, among which held-out images choose; one pass over the features.

Several processes take the rates in turn: the classifiers of a rate train in one of them, and so as they would alone.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scfs import distributed
from scfs.config.evaluation import Probe
from scfs.data.images import ImageSet
from scfs.errors import ScfsError
from scfs.evaluation.probe import Classifiers, summary
from scfs.evaluation.shares import held_out
from scfs.progress import log


class Sweep:
    """Classifiers of every rate: on all images those that are reported, without the held-out ones those that choose.

    No two share a parameter, so each trains as it would alone. Without `lr_sweep` there are those of `lr` alone.
    """

    def __init__(self, protocol: Probe, train: ImageSet, channels: int, steps: int, device: torch.device) -> None:
        """Draw the classifiers for a training of `steps` steps on features of width `channels`.

        Raises:
            ScfsError: a class has too few images to hold one out.
        """
        self.protocol = protocol
        self.rates = protocol.lr_sweep or (protocol.lr,)
        classes = len(train.classes)
        self.reported = [Classifiers(channels, classes, protocol, steps, device, lr) for lr in self.rates]
        self.choosing = [Classifiers(channels, classes, protocol, steps, device, lr) for lr in protocol.lr_sweep]
        self._kept = torch.ones(len(train), dtype=torch.bool)
        if self.choosing:
            self._kept = torch.from_numpy(~held_out(train, protocol.validation, protocol.seeds[0]))
        self._top1: list[np.ndarray] = []

    def step(self, features: Tensor, labels: Tensor, rows: Tensor) -> None:
        """One step of all on features (B, C) or (S, B, C) of the images in `rows`, (B,) or (S, B) as `labels` are."""
        for classifiers in distributed.in_turn(self.reported):
            classifiers.step(features, labels)
        kept = self._kept[rows].to(labels.device) if self.choosing else None
        for classifiers in distributed.in_turn(self.choosing):
            classifiers.step(features, labels, kept)

    def test(self, features: Tensor, labels: Tensor) -> None:
        """Note the accuracies after an epoch on the test split: features (n, C), labels (n,)."""
        own = [classifiers.accuracy(features, labels) for classifiers in distributed.in_turn(self.reported)]
        self._top1.append(np.stack(distributed.merged(own)))

    def result(
        self, features_of: Callable[[npt.NDArray[np.int64]], Tensor], labels: Tensor
    ) -> tuple[dict[str, float], dict[str, Any]]:
        """Values for tables and details, after the last epoch.

        Args:
            features_of: gives the features (m, C) of the clean views of some rows (m,) of the train split.
            labels: of the train split, (n,).

        Raises:
            ScfsError: the classifiers of all rates of the sweep diverged.
        """
        if not self.choosing:
            values, seeds = summary([top1[0] for top1 in self._top1], self.protocol.seeds)
            return values, {"seeds": seeds}
        rows = np.flatnonzero(~self._kept.numpy())
        features, labels = features_of(rows), labels[rows]
        own = [self._tried(index, features, labels) for index in distributed.in_turn(range(len(self.rates)))]
        tried = distributed.merged(own)
        sound = [index for index, each in enumerate(tried) if "held_out_top1" in each]
        if not sound:
            raise ScfsError(f"lr_sweep = {list(self.rates)}: the classifiers of all rates diverged: give lower rates")
        best = min(sound, key=lambda index: (-tried[index]["held_out_top1"], self.rates[index]))
        lr = self.rates[best]
        log(f"chosen: lr {lr:g}: top1 {tried[best]['held_out_top1']:.2f} on {len(labels)} held-out images")
        if lr in (min(self.rates), max(self.rates)):
            log(f"warning: the chosen lr = {lr:g} is at the edge of the sweep {sorted(self.rates)}")
        values, seeds = summary([top1[best] for top1 in self._top1], self.protocol.seeds)
        sweep = {"lr": lr, "held_out_images": len(labels), "tried": tried}
        return values, {"seeds": seeds, "sweep": sweep}

    def _tried(self, index: int, features: Tensor, labels: Tensor) -> dict[str, Any]:
        """A rate, and its held-out accuracy, mean over the seeds; or that it diverged, in either training."""
        if not (self.choosing[index].is_finite() and self.reported[index].is_finite()):
            return {"lr": self.rates[index], "diverged": True}
        top1 = self.choosing[index].accuracy(features, labels)
        return {"lr": self.rates[index], "held_out_top1": float(top1.mean())}
