"""Every comparison by name."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from benchmarks import loader, step
from benchmarks.measure import Pair


@dataclass(frozen=True)
class Benchmark:
    """A comparison, and what it should show on one thread of a CPU (issue 8's targets)."""

    what: str
    make: Callable[[bool, torch.device], Pair]
    """From whether it is the short form, and the device."""
    speed: float
    """Reference / ours, at least."""
    memory: float | None = None
    """Ours / reference, at most; None: only shown."""
    rounds: int = 5


def _step(precision: str, reference_precision: str) -> Callable[[bool, torch.device], Pair]:
    return partial(step.pair, precision=precision, reference_precision=reference_precision)


NAMES: dict[str, Benchmark] = {
    "step-fp32": Benchmark("step, fp32 / fp32", _step("fp32", "fp32"), 1.3),
    "step-bf16": Benchmark("step, bf16 / bf16", _step("bf16", "bf16"), 1.4),
    "step": Benchmark("step, bf16 / fp32", _step("bf16", "fp32"), 2.8),
    "views": Benchmark("views of an image of 500 x 375", partial(loader.pair, size="imagenet", workers=0), 5),
    "views-camera": Benchmark("views of an image of 1600 x 1200", partial(loader.pair, size="camera", workers=0), 1),
    "loader": Benchmark("images of 500 x 375 by a loader", partial(loader.pair, size="imagenet", workers=1), 4),
}
