"""Stop signals, which a training obeys between two steps. This module needs no torch.

SIGINT and SIGTERM: save and end. SIGUSR2: SLURM's warning before a time limit or a preemption, which Submitit requests
(not SIGUSR1, which NCCL may use); the job then saves and queues itself again.
"""

import os
import select
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from scfs.errors import ScfsError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)

_received: list[int] = []
_contexts = 0


class PreemptedError(ScfsError):
    """A training was stopped by a signal and has saved its state; all of its processes raise this together."""

    def __init__(self, number: int, step: int, total: int) -> None:
        """Take the number of the signal and the training's position: `step` of `total`."""
        self.number, self.step = number, step
        name = signal.Signals(number).name
        super().__init__(f"stopped by {name} at step {step} of {total}; start again to resume there")


@contextmanager
def handling(handler: Callable[[int, FrameType | None], None] | signal.Handlers, *numbers: int) -> Iterator[None]:
    """Handle signals by `handler` inside the block, and afterwards as before it."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collect stop signals in a list instead of dying in the middle of a step; the training loop reads it and stops.

    Nested contexts share one list: a job collects from its start, before there is a training loop.
    """
    global _contexts
    if not _contexts:
        _received.clear()
    _contexts += 1
    try:
        with handling(lambda number, frame: _received.append(number), *SIGNALS):
            yield _received
    finally:
        _contexts -= 1


def signal_when_gone(pid: int, number: int) -> None:
    """Send this process a signal as soon as process `pid` is gone, in whatever way that ended."""

    def watch() -> None:
        with suppress(ProcessLookupError):  # it is gone already
            select.select([os.pidfd_open(pid)], [], [])
        os.kill(os.getpid(), number)

    threading.Thread(target=watch, name=f"watches {pid}", daemon=True).start()
