"""Schedules as pure functions of the step, so that there is no state to save; held to the golden file."""

import math
from dataclasses import dataclass

from scfs.config.pretrain import Pretrain


def cosine_with_warmup(step: int, peak: float, final: float, total: int, warmup: int = 0) -> float:
    """Rise linearly from 0 to `peak` over `warmup` steps (both ends included), then half a cosine to `final`.

    Args:
        step: optimiser step, from 0.
        peak: value after the warm-up.
        final: value that the cosine would reach at step `total`.
        total: steps in all.
        warmup: steps of warm-up.
    """
    if step < warmup:
        return peak * step / max(1, warmup - 1)
    progress = (step - warmup) / (total - warmup)
    return final + 0.5 * (peak - final) * (1 + math.cos(math.pi * progress))


def linear_warmup(moment: int, start: float, final: float, warmup: int) -> float:
    """Change linearly from `start` to `final` over `warmup` epochs or steps, both ends included, then stay."""
    if moment >= warmup:
        return final
    return start + (final - start) * moment / max(1, warmup - 1)


@dataclass(frozen=True)
class Schedules:
    """Values of a step. Pure functions: a resumed run needs nothing but the step."""

    settings: Pretrain
    steps_per_epoch: int

    @property
    def total(self) -> int:
        """Steps in all."""
        return self.settings.epochs * self.steps_per_epoch

    def epoch(self, step: int) -> int:
        """Epoch of a step, from 0."""
        return step // self.steps_per_epoch

    def epochs_done(self, step: int) -> float:
        """Epochs before a step, with their fraction."""
        return step / self.steps_per_epoch

    def lr(self, step: int) -> float:
        """Learning rate: base * batch / 256 after the warm-up, cosine to min_lr."""
        optimizer = self.settings.optimizer
        warmup = round(optimizer.warmup_epochs * self.steps_per_epoch)
        peak = optimizer.lr * self.settings.batch / 256
        return cosine_with_warmup(step, peak, optimizer.min_lr, self.total, warmup)

    def weight_decay(self, step: int) -> float:
        """Weight decay of matrices and kernels."""
        optimizer = self.settings.optimizer
        if optimizer.weight_decay_end is None:
            return optimizer.weight_decay
        return cosine_with_warmup(step, optimizer.weight_decay, optimizer.weight_decay_end, self.total)

    def teacher_momentum(self, step: int) -> float:
        """Momentum of the teacher's moving average."""
        return cosine_with_warmup(step, self.settings.optimizer.teacher_momentum, 1.0, self.total)

    def teacher_temperature(self, step: int) -> float:
        """tau': it rises from epoch to epoch over a whole number of epochs, as in DINO, and else from step to step."""
        loss, warmup = self.settings.loss, self.settings.loss.teacher_temperature_warmup
        if warmup % 1 == 0:
            return linear_warmup(self.epoch(step), *loss.teacher_temperature, int(warmup))
        return linear_warmup(step, *loss.teacher_temperature, round(warmup * self.steps_per_epoch))
