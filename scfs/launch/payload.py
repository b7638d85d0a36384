"""The call that each process of a job makes: a stage's function, and after SLURM's warning a new place in the queue."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scfs.errors import ProcessLostError, ScfsError
from scfs.io.atomic import write_json
from scfs.io.progress import log, silence
from scfs.launch import slurm
from scfs.launch.logs import STARTED
from scfs.runtime.cpu import worker_count
from scfs.runtime.stop_signals import PreemptedError, signal_when_gone, stop_signals
from scfs.runtime.world import find_world

EARLY_WARNING = 150.0
"""Seconds before the warning is due in which a warning counts as the time limit's: SLURM may send it 60 s early."""
REQUEUED_WAIT = 300.0
"""Seconds that the processes wait for SLURM to end them once the job is queued again."""
LOST_WAIT = 360.0
"""Seconds that a process waits after another one was lost. If its node has died, SLURM starts the job again as soon as
it knows (SlurmdTimeout, 300 s by default), unless the job has failed before; if it ended alone, srun ends this one."""
REQUEST = "-requeue"
"""End of the name, after the job's number, of the file by which a process in an image asks for a new place."""


@dataclass(frozen=True)
class StageCall:
    """A call of a stage's function, to be made here or by every process of a job."""

    function: Callable[..., None]
    """Function of a module: a pickle holds its name alone. It imports what it needs when it is called (scfs.cli.calls),
    so that the process that submits a job needs no torch."""
    keywords: dict[str, Any]
    """Arguments, without `threads` and `workers`."""
    threads: int
    """Number of torch's threads."""
    workers: int | None
    """Number of processes that read images; None: as many as suit the cores of the machine that makes the call."""

    def __call__(self) -> None:
        """Make the call."""
        self.function(**self.keywords, threads=self.threads, workers=worker_count(self.workers, self.threads))


@dataclass(frozen=True)
class Payload:
    """Object that Submitit pickles into the job's folder, and that each process loads and calls at each start."""

    call: StageCall
    """The stage's work."""
    folder: Path
    """Folder of the job; its time limits are counted here."""
    code: Path
    """Copy of the package that the process must have imported."""
    seconds: float | None = None
    """Seconds from the start of the job to SLURM's warning; None: there is no time limit."""
    time_limits: int = 0
    """Number of time limits that the job may run into."""
    in_image: bool = False
    """True if the process runs in an image: SLURM's commands are out of reach there, so the job's script queues the job
    again."""
    launcher: int | None = None
    """Number of the process with which this one is to end; None: it lives on without."""

    def __call__(self) -> None:
        """Do the work until its end, or until asked to stop.

        Raises:
            SystemExit: with status 1 after an error, which the log says in one line, or after a stop.
        """
        print(STARTED, file=sys.stderr, flush=True)
        early = {signal.SIGUSR2} & signal.sigpending()  # see `executor.DEFER_WARNING`
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # after the work a warning would end it as failed
        started = time.monotonic()
        received: list[int] = []
        if self.launcher is not None:
            signal_when_gone(self.launcher, signal.SIGKILL)
        world = find_world()
        silence(world.local_rank > 0)
        try:
            if Path(sys.modules["scfs"].__file__ or "").resolve().parent.parent != self.code.resolve():
                raise ScfsError(f"{sys.modules['scfs'].__file__}: imported, not the copy in {self.code}")
            with stop_signals() as received:
                received.extend(early)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR2])
                self.call()
        except (ScfsError, SystemExit) as error:  # SystemExit: of a process that leaves it to another one to say why
            reason = error.__cause__ if isinstance(error, SystemExit) else error
            preempted = isinstance(reason, PreemptedError)  # all stop together, and one says so
            if world.rank == 0 if preempted else isinstance(error, ScfsError):
                log(f"scfs: {reason}")
            self._end(reason, world.rank, time.monotonic() - started, received)
            raise SystemExit(1) from None

    def _end(self, error: BaseException | None, rank: int, seconds: float, received: list[int]) -> None:
        """In a SLURM job, queue the job again or wait to be ended, if the reason asks for it."""
        if "SLURM_JOB_ID" not in os.environ:
            return
        if isinstance(error, PreemptedError) and error.number == signal.SIGUSR2:
            self._queue_again(rank, seconds)
        elif isinstance(error, ProcessLostError) and signal.SIGTERM not in received:
            wait_for_sigterm(LOST_WAIT)

    def _queue_again(self, rank: int, seconds: float) -> None:
        """Ask for a new place in the queue, as the first process, and wait to be ended.

        All processes wait, since one that ends by itself makes srun end the others. Submitit's own handler would ask at
        once, in the middle of a step, and count time limits by its own rule.
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
        wait_for_sigterm(REQUEUED_WAIT)

    def _count_time_limit(self, job: str, seconds: float) -> None:
        """Raise ScfsError once there were more time limits than the planned hours explain; do not count preemptions."""
        if self.seconds is None or seconds < self.seconds - EARLY_WARNING:
            return
        file = self.folder / f"{job}-time-limits.json"
        number = (json.loads(file.read_text()) if file.is_file() else 0) + 1
        write_json(file, number)
        if number > self.time_limits:
            raise ScfsError(
                f"time limit number {number}, more than the {self.time_limits} that the planned hours explain; start"
                " the same command again to go on, with more minutes or nodes"
            )


def wait_for_sigterm(seconds: float) -> None:
    """Leave the end to SLURM, whose SIGTERM is obeyed at once."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    time.sleep(seconds)
