"""Every comparison by name."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from benchmarks import knn, loader, step
from benchmarks.measure import Pair
from scfs.views.colour_batched import Colour


@dataclass(frozen=True)
class Benchmark:
    """A comparison, and what it should show on one thread of a CPU (issue 8's targets)."""

    what: str
    make: Callable[[bool, torch.device], Pair]
    """Function that makes the pair, given True for the short form, and the device."""
    speed: float
    """Reference / ours, at least."""
    memory: float | None = None
    """Ours / reference, at most; None: only shown."""
    rounds: int = 5
    devices: tuple[str, ...] = ("cpu", "cuda")
    """Where it runs unless it is asked for by name."""


def _step(precision: str, reference: str, option: step.Option | None = None) -> Callable[[bool, torch.device], Pair]:
    return partial(step.pair, precision=precision, reference_precision=reference, option=option)


def _gain(option: step.Option) -> Callable[[bool, torch.device], Pair]:
    return partial(step.gain, precision="bf16", option=option)


def _loader(size: loader.Size, workers: int, colour: Colour) -> Callable[[bool, torch.device], Pair]:
    return partial(loader.pair, size=size, workers=workers, colour=colour)


NAMES: dict[str, Benchmark] = {
    # First, as in a training: a worker begins as a copy of its process, which takes longer once steps have filled that.
    "views": Benchmark("views of an image of 500 x 375", _loader("imagenet", 0, "cpu"), 5),
    "views-crops": Benchmark("the same, colour left to the device", _loader("imagenet", 0, "device"), 10),
    "loader": Benchmark("images of 500 x 375 by a loader", _loader("imagenet", 1, "cpu"), 4, rounds=9),
    "loader-crops": Benchmark("the same, colour left to the device", _loader("imagenet", 1, "device"), 8, rounds=9),
    "camera": Benchmark("views of an image of 1600 x 1200", _loader("camera", 0, "cpu"), 1),
    "camera-crops": Benchmark("the same, colour left to the device", _loader("camera", 0, "device"), 1),
    "step-fp32": Benchmark("step, fp32 / fp32", _step("fp32", "fp32"), 1.3),
    "step-bf16": Benchmark("step, bf16 / bf16", _step("bf16", "bf16"), 1.4),
    "step": Benchmark("step, bf16 / fp32", _step("bf16", "fp32"), 2.8),
    "step-memory": Benchmark(
        "step, bf16 --activation-checkpointing / fp32", _step("bf16", "fp32", "activation_checkpointing"), 2.2, 0.42
    ),
    "step-compile": Benchmark("step, ours: --compile / without it", _gain("compile"), 1, devices=("cuda",)),
    "step-side-stream": Benchmark("step, ours: --side-stream / without it", _gain("side_stream"), 1, devices=("cuda",)),
    "knn": Benchmark("k-NN, 100k x 2048 features, k = 10, 20, 30", knn.pair, 3.0, rounds=3, devices=("cpu",)),
}
