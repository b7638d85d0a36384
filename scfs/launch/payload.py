"""What each process of a job does: the work of a stage, and after SLURM's warning a new place in the queue."""

import json
import os
import select
import signal
import sys
import threading
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from scfs.errors import ProcessLostError, ScfsError
from scfs.io.atomic import write_json
from scfs.io.progress import log, silence
from scfs.launch import slurm
from scfs.runtime.cpu import worker_count
from scfs.runtime.stop_signals import PreemptedError, stop_signals
from scfs.runtime.world import find_world

NEAR = 150.0
"""Seconds before the warning is due in which it counts as the time limit's: SLURM may send it 60 s early."""
BEING_ENDED = 300.0
"""Seconds that the processes wait for SLURM to end them once the job is queued again."""

REQUEST = "-requeue"
"""End of the name, after the job's number, of the file by which a process in an image asks for a new place."""
LOST = 360.0
"""Seconds that a process waits after another one was lost. If its node has died, SLURM starts the job again as soon as
it knows (SlurmdTimeout, 300 s by default), unless the job has failed before; if it ended alone, srun ends this one."""


@dataclass(frozen=True)
class Work:
    """A function that does the work of a stage in every process of its job."""

    module: str
    function: str
    keywords: dict[str, Any]
    threads: int
    """Torch's."""
    workers: int | None
    """Image readers; None: as many as the cores are good for where the work is done."""

    def __call__(self) -> None:
        """Do it."""
        function = getattr(import_module(self.module), self.function)
        function(**self.keywords, threads=self.threads, workers=worker_count(self.workers, self.threads))


@dataclass(frozen=True)
class Payload:
    """Pickled by reference into the run folder, and loaded again by each process at each start of the job."""

    work: Work
    folder: Path
    """Of the job: its time limits are counted here."""
    code: Path
    """Copy of the package that the process must have imported."""
    seconds: float | None = None
    """From the start of the job to SLURM's warning; None: there is no time limit."""
    time_limits: int = 0
    """Time limits that the job may run into."""
    in_image: bool = False
    """SLURM's commands are then out of reach, and the script of the job asks instead."""
    launcher: int | None = None
    """Process with which this one is to end; None: it lives on without."""

    def __call__(self) -> None:
        """Work until the end, or until asked to stop.

        Raises:
            SystemExit: with status 1 after an error, which the log says in one line, or after a stop.
        """
        started = time.monotonic()
        received: list[int] = []
        if self.launcher is not None:
            end_with(self.launcher)
        world = find_world()
        silence(world.local_rank > 0)
        try:
            if Path(sys.modules["scfs"].__file__ or "").resolve().parent.parent != self.code.resolve():
                raise ScfsError(f"{sys.modules['scfs'].__file__}: imported, not the copy in {self.code}")
            with stop_signals() as received:
                self.work()
        except ScfsError as error:
            if world.rank == 0 or not isinstance(error, PreemptedError):  # all stop together, and one says so
                log(f"scfs: {error}")
            self._end(error, world.rank, time.monotonic() - started, received)
            raise SystemExit(1) from None
        except SystemExit as silent:  # of a process that leaves it to another one to say why
            if world.rank == 0 and isinstance(silent.__cause__, PreemptedError):
                log(f"scfs: {silent.__cause__}")
            self._end(silent.__cause__, world.rank, time.monotonic() - started, received)
            raise

    def _end(self, error: BaseException | None, rank: int, seconds: float, received: list[int]) -> None:
        """What a SLURM job does before its processes end."""
        if "SLURM_JOB_ID" not in os.environ:
            return
        if isinstance(error, PreemptedError) and error.number == signal.SIGUSR2:
            self._queue_again(rank, seconds)
        elif isinstance(error, ProcessLostError) and signal.SIGTERM not in received:
            wait_to_be_ended(LOST)

    def _queue_again(self, rank: int, seconds: float) -> None:
        """The first process asks; all wait to be ended, since one that ends by itself makes srun end the others.

        Submitit's own handler would ask at once, in the middle of a step, and count time limits by its own rule.
        """
        job = os.environ["SLURM_JOB_ID"]
        if rank == 0:
            try:
                self._count_time_limit(job, seconds)
                if self.in_image:
                    (self.folder / f"{job}{REQUEST}").touch()
                else:
                    slurm.requeue(job)
            except ScfsError as error:
                log(f"scfs: job {job} is not queued again: {error}")
                return
            log(f"job {job} is queued again and will resume there")
        wait_to_be_ended(BEING_ENDED)

    def _count_time_limit(self, job: str, seconds: float) -> None:
        """Raise once there were more of them than the planned hours explain; preemptions are not counted."""
        if self.seconds is None or seconds < self.seconds - NEAR:
            return
        file = self.folder / f"{job}-time-limits.json"
        number = (json.loads(file.read_text()) if file.is_file() else 0) + 1
        write_json(file, number)
        if number > self.time_limits:
            raise ScfsError(
                f"time limit number {number}, more than the {self.time_limits} that the planned hours explain; start"
                " the same command again to go on, with more minutes or nodes"
            )


def wait_to_be_ended(seconds: float) -> None:
    """Leave the end to SLURM, whose SIGTERM is obeyed at once."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    time.sleep(seconds)


def end_with(pid: int) -> None:
    """Kill this process as soon as process `pid` is gone, however that ended."""

    def watch() -> None:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            os.kill(os.getpid(), signal.SIGKILL)
            return
        select.select([handle], [], [])
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="launcher", daemon=True).start()
