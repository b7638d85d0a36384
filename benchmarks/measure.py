"""Two ways to compute the same, timed in turn in one process, so that both meet the same machine."""

import gc
import resource
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile

Call = Callable[[], object]


class Pair(NamedTuple):
    """The same work, done once by each call; what a call needs more than once, it does not leave behind."""

    ours: Call
    reference: Call
    items: int = 1
    """Number of items (such as images) of a call; seconds are shown for one item."""


class Spread(NamedTuple):
    """Median of some rounds, with the smallest and the largest."""

    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        """Summarise one value per round."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Measured:
    """Result of a comparison."""

    ours: Spread
    """Seconds per item."""
    reference: Spread
    ratio: Spread
    """Reference / ours, round by round."""
    ours_peak: int
    """Bytes of tensors that live at most during a call, beyond what lives before and after it."""
    reference_peak: int

    @property
    def memory(self) -> float:
        """Ours / reference."""
        return self.ours_peak / max(self.reference_peak, 1)


def compare(pair: Pair, rounds: int, device: torch.device) -> Measured:
    """Call both in turn, `rounds` times after two that are not counted; who begins changes with every round."""
    calls = pair.ours, pair.reference
    peaks = [_peak(call, device) for call in calls]
    seconds: list[list[float]] = [[], []]
    for number in range(rounds):
        for index in (0, 1) if number % 2 else (1, 0):
            seconds[index].append(_seconds(calls[index], device) / pair.items)
    ratios = [theirs / ours for ours, theirs in zip(*seconds, strict=True)]
    return Measured(Spread.of(seconds[0]), Spread.of(seconds[1]), Spread.of(ratios), *peaks)


def _seconds(call: Call, device: torch.device) -> float:
    """On a CPU: of this process and the ended ones it began, also in the kernel; on a GPU: between two events."""
    gc.collect()
    if device.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1000
    started = _cpu_time()
    call()
    return _cpu_time() - started


def _cpu_time() -> float:
    spent = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return sum(usage.ru_utime + usage.ru_stime for usage in spent)


def _peak(call: Call, device: torch.device) -> int:
    """Bytes of tensors that live at most during a second call, beyond what lives before and after it."""
    call()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    live = most = 0
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        call()
    assert record.profiler is not None and record.profiler.kineto_results is not None
    for event in record.profiler.kineto_results.events():
        if event.name() == "[memory]":
            live += event.nbytes()
            most = max(most, live)
    return most
