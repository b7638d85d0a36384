"""Schedules as pure functions of the step, so that there is no state to save (method.md 8; held to the golden file)."""

import math


def cosine_with_warmup(step: int, peak: float, final: float, total: int, warmup: int = 0) -> float:
    """Linear from 0 to `peak` over `warmup` steps (both ends included), then half a cosine towards `final`.

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


def linear_warmup(epoch: int, start: float, final: float, warmup: int) -> float:
    """Linear from `start` to `final` over `warmup` epochs (both ends included), then constant."""
    if epoch >= warmup:
        return final
    return start + (final - start) * epoch / max(1, warmup - 1)
