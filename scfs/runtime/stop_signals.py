"""Requests to stop that a training obeys between two steps. Needs no torch.

SIGINT and SIGTERM: save and end. SIGUSR2: SLURM's warning before a time limit or a preemption, which Submitit asks it
for (not SIGUSR1: NCCL may use that); the job then saves and queues itself again.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from scfs.errors import ScfsError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)

_received: list[int] = []
_contexts = 0


class StoppedError(ScfsError):
    """A training has saved its state and stopped, as it was asked to; raised by all of its processes together."""

    def __init__(self, number: int, step: int, total: int) -> None:
        """Take the signal, and where the training stands."""
        self.number, self.step = number, step
        name = signal.Signals(number).name
        super().__init__(f"stopped by {name} at step {step} of {total}; start again to resume there")


@contextmanager
def stop_requests() -> Iterator[list[int]]:
    """Collect the signals instead of dying in the middle of a step; the loop looks at them, saves and stops.

    One context inside another shares what was received: a job collects from its start, before there is a loop.
    """

    def note(number: int, frame: FrameType | None) -> None:
        _received.append(number)

    global _contexts
    if not _contexts:
        _received.clear()
    _contexts += 1
    before = {number: signal.signal(number, note) for number in SIGNALS}
    try:
        yield _received
    finally:
        _contexts -= 1
        for number, handler in before.items():
            signal.signal(number, handler)
