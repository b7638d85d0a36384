"""Reasons for a launcher to end before its job: signals, and the end of the Snakemake or DVC that called it."""

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scfs.runtime.stop_signals import handling

CALLERS = ("snakemake", "dvc")
"""Programs whose end a launcher notices, if they are among the processes that started it."""


class Signals:
    """Signals that this process received, and whether its callers are alive, since `caught_signals` was entered."""

    def __init__(self, callers: list[int]) -> None:
        """Begin without a signal.

        Args:
            callers: process handles (`os.pidfd_open`) of the callers, which become readable when these end.
        """
        self.received: list[int] = []
        self.callers = callers

    @property
    def cancelled_by(self) -> str:
        """Name of a signal that is to end the job too; empty if there was none."""
        return next((signal.Signals(number).name for number in self.received if number != signal.SIGHUP), "")

    @property
    def left_by(self) -> str:
        """Reason why the launcher is to end and leave a job of the cluster alone; empty if there is none."""
        if signal.SIGHUP in self.received:
            return "SIGHUP"
        return "the process that asked for this is gone" if select.select(self.callers, [], [], 0)[0] else ""


@contextmanager
def caught_signals() -> Iterator[Signals]:
    """Collect SIGINT, SIGTERM and SIGHUP instead of dying; under nohup SIGHUP stays ignored."""
    found = Signals(_callers())
    watched = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        watched.append(signal.SIGHUP)
    try:
        with handling(lambda number, frame: found.received.append(number), *watched):
            yield found
    finally:
        for handle in found.callers:
            os.close(handle)


def _callers() -> list[int]:
    """Open handles of the processes above this one that are a Snakemake or a DVC."""
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
