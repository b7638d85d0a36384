"""Stop signals, which a training obeys between two steps, and says so at once. This module needs no torch.

SIGINT and SIGTERM: save and end. SIGUSR2: SLURM's warning before a time limit or a preemption, which Submitit requests
(not SIGUSR1, which NCCL may use); the job then saves and queues itself again. A second SIGINT ends the process at once.
"""

import multiprocessing
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from types import FrameType

from scfs.errors import ScfsError
from scfs.io.progress import close_bars, log

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)
SAME_PRESS = 1.0
"""Seconds in which another SIGINT is the same Ctrl-C: a launcher sends its own on to processes that have had it."""

_received: list[int] = []
_contexts = 0


def _unknown() -> float | None:
    return None


_step_seconds = _unknown


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
def stop_signals(step_seconds: Callable[[], float | None] = _unknown) -> Iterator[list[int]]:
    """Collect stop signals in a list instead of dying in the middle of a step; the training loop reads it and stops.

    Nested contexts share one list: a job collects from its start, before there is a training loop.

    Args:
        step_seconds: gives the seconds that a step takes, for what is said at a signal; None: not yet known.
    """
    global _contexts, _step_seconds
    if not _contexts:
        _received.clear()
    _contexts += 1
    before, _step_seconds = _step_seconds, step_seconds
    try:
        announced = nullcontext() if _contexts > 1 else _announced()
        with announced, handling(lambda number, frame: _received.append(number), *SIGNALS):
            yield _received
    finally:
        _contexts -= 1
        _step_seconds = before


@contextmanager
def _announced() -> Iterator[None]:
    """Say what a signal does from a thread: Python's handlers wait while the main thread is in a long operation."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    thread = threading.Thread(target=_announce, args=[reading], name="stop signals", daemon=True)
    thread.start()
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.write(writing, bytes(1))
        thread.join()
        os.close(reading)
        os.close(writing)


def _announce(reading: int) -> None:
    first = pressed = 0.0
    while number := os.read(reading, 1)[0]:
        if number not in SIGNALS:
            continue
        now, again = time.monotonic(), number == signal.SIGINT
        if again and pressed and now - pressed > SAME_PRESS:
            log("stopped at once; start again to resume at the last saved state")
            close_bars()
            for child in multiprocessing.active_children():  # they would hold the run's lock for a while
                child.kill()
            os._exit(128 + number)
        if not first:
            seconds = _step_seconds()
            about = "" if seconds is None else f" (about {seconds:.0f} s)" if seconds >= 1 else " (less than 1 s)"
            log(f"stopping after this step{about}" + "; again to stop at once" * again)
        first, pressed = first or now, pressed or now * again


def signal_when_gone(pid: int, number: int) -> None:
    """Send this process a signal as soon as process `pid` is gone, in whatever way that ended."""

    def watch() -> None:
        with suppress(ProcessLookupError):  # it is gone already
            select.select([os.pidfd_open(pid)], [], [])
        os.kill(os.getpid(), number)

    threading.Thread(target=watch, name=f"watches {pid}", daemon=True).start()
