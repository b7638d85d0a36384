"""What may end a launcher before its job has ended: signals, and the end of the Snakemake or DVC that called it."""

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

CALLERS = ("snakemake", "dvc")


class Interruptions:
    """Those since the context was entered."""

    def __init__(self) -> None:
        self.received: list[int] = []
        self.callers: list[int] = []
        """Handles of the processes above that call stages; they tell when these end, however that happens."""

    @property
    def ending(self) -> str:
        """Name of a signal that is to end the job too; empty if there was none."""
        return next((signal.Signals(number).name for number in self.received if number != signal.SIGHUP), "")

    @property
    def leaving(self) -> str:
        """Why the launcher is to leave a job of the cluster alone; empty if it is not."""
        if signal.SIGHUP in self.received:
            return "SIGHUP"
        return "the process that asked for this is gone" if select.select(self.callers, [], [], 0)[0] else ""


@contextmanager
def interruptions() -> Iterator[Interruptions]:
    """Collect signals instead of dying; SIGHUP stays ignored under nohup."""
    found = Interruptions()

    def note(number: int, frame: FrameType | None) -> None:
        found.received.append(number)

    watched = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        watched.append(signal.SIGHUP)
    before = {number: signal.signal(number, note) for number in watched}
    found.callers = _callers()
    try:
        yield found
    finally:
        for handle in found.callers:
            os.close(handle)
        for number, handler in before.items():
            signal.signal(number, handler)


def _callers() -> list[int]:
    handles = []
    pid = os.getppid()
    while pid > 1:
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if any(Path(os.fsdecode(word)).name in CALLERS for word in words[:3]):
                handles.append(os.pidfd_open(pid))
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            break
    return handles
