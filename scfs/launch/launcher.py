"""One job for one run: adopt it if it is there, else submit it, and follow it to its end.

Whatever ends the launcher, at whatever moment, a run has at most one job, and the next launcher finds it, because
* one launcher at a time, by a lock in the job's folder that its sbatch holds too;
* under the lock SLURM is asked for a live job with the run's comment, and only then is one submitted.
SIGINT and SIGTERM cancel the job. SIGHUP (the ssh session is gone), SIGKILL, and the end of the Snakemake or DVC above
leave it running. Processes of this machine end with the launcher in every case, after saving where that is possible.
"""

import os
import platform
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from scfs.errors import ScfsError
from scfs.io.atomic import write_text
from scfs.io.locks import try_lock
from scfs.io.progress import log
from scfs.launch import executor, slurm
from scfs.launch.code_snapshot import snapshot_code
from scfs.launch.logs import SHOWN, Follower, failed_rank, lines_of, rank_log
from scfs.launch.payload import Payload, StageCall
from scfs.launch.settings import Launch
from scfs.launch.signals import Signals, caught_signals

TICK = 0.5
"""Seconds between two looks at the log."""
LOCK_WAIT = 30.0
"""Seconds that a launcher waits for a lock whose holder may be gone: a killed launcher's sbatch holds it too."""
SAVE_WAIT = 120.0
"""Seconds that the processes of this machine have to save."""


def launch(call: StageCall, folder: Path, settings: Launch, *, name: str, time_limits: int) -> None:
    """Make `call` in the processes of a job, and return when that has ended well.

    Args:
        call: the stage's work.
        folder: folder of the job; its name ends with the identity of the work.
        settings: executor local or slurm, and what it needs.
        name: name of the run.
        time_limits: number of time limits that the job may run into before it gives up.

    Raises:
        ScfsError: the job failed, was cancelled, or was left running; or another launcher follows it.
    """
    with _launcher_lock(folder) as lock, caught_signals() as signals:
        code = snapshot_code((folder / "code").resolve())
        if settings.executor == "local":
            processes = executor.LocalProcesses(Payload(call, folder.resolve(), code, launcher=os.getpid()), settings)
            job, state = processes.id, "ENDED"
            _follow_local(processes, Follower(folder, job), signals)
        else:
            comment = f"scfs:{folder.name}:{_token(folder)}"
            found = _live_job(comment, settings)
            if found is None:
                seconds = settings.minutes * 60 - settings.warning_seconds
                payload = Payload(
                    call, folder.resolve(), code, seconds, time_limits, in_image=settings.image is not None
                )
                job = executor.submit(payload, name, comment, settings, lock)
                log(f"submitted job {job}: {settings.nodes} x {settings.processes} processes, {settings.minutes} min")
            else:
                job = found
                log(f"job {job} of this run is there already: following it")
            state = _follow(job, Follower(folder, job, from_now=found is not None), settings, signals)
        if state != "COMPLETED" and not (state in ("ENDED", slurm.GONE) and executor.ended_well(folder, job)):
            raise _failure(folder, job, name, state)


@contextmanager
def _launcher_lock(folder: Path) -> Iterator[IO[str]]:
    """Hold the folder's lock; raise ScfsError if another launcher does."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as file:
        end = time.monotonic() + LOCK_WAIT
        while not try_lock(file.fileno()):
            file.seek(0)
            holder = file.read().strip()
            if _lives_here(holder) or time.monotonic() > end:
                raise ScfsError(f"{folder}: {holder or 'another launcher'} follows this run's job")
            time.sleep(TICK)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()
        yield file


def _lives_here(holder: str) -> bool:
    """True if the launcher that wrote its name into the lock is a live process of this machine."""
    name, _, host = holder.partition(" on ")
    return host == platform.node() and Path("/proc", name.removeprefix("process ")).is_dir()


def _token(folder: Path) -> str:
    """Read, or draw, the word that tells this folder's jobs from those of the same run in another folder."""
    file = folder / "token"
    if not file.is_file():
        write_text(file, secrets.token_hex(6))
    return file.read_text()


def _live_job(comment: str, settings: Launch, attempts: int = 5) -> str | None:
    """Find the live job with this comment; None means that it is safe to submit one."""
    try:
        return next((job.id for job in slurm.live_jobs() if job.comment == comment), None)
    except slurm.UnreachableError as error:
        if attempts == 1:
            raise
        log(f"warning: {error}; asking again")
        time.sleep(settings.poll_seconds)
        return _live_job(comment, settings, attempts - 1)


def _follow(job: str, follower: Follower, settings: Launch, signals: Signals) -> str:
    """Pass on what a SLURM job says, until it has ended, and return its last state."""
    asked, said = 0.0, ("", "")
    while True:
        follower.pass_on()
        if signals.cancelled_by:
            ended = slurm.cancel(job)
            follower.pass_on()
            left = "" if ended else ", but it has not ended yet"
            raise ScfsError(f"{signals.cancelled_by}: job {job} is cancelled{left}")
        if signals.left_by:
            raise ScfsError(f"{signals.left_by}: job {job} goes on; the same command follows it again")
        if time.monotonic() - asked >= settings.poll_seconds:
            asked, state = time.monotonic(), slurm.state_of(job)
            if state != said:
                log(f"job {job}: {' '.join(state)}".rstrip())
                said = state
            if not slurm.is_live(state[0]):
                follower.pass_on()
                return state[0]
        time.sleep(TICK)


def _follow_local(job: executor.LocalProcesses, follower: Follower, signals: Signals) -> None:
    """Pass on what processes of this machine say, until they have ended."""
    while not job.ended():
        follower.pass_on()
        if reason := signals.cancelled_by or signals.left_by:
            job.stop(SAVE_WAIT)
            follower.pass_on()
            raise ScfsError(f"{reason}: the processes have ended; start again to resume")
        time.sleep(TICK)
    follower.pass_on()


def _failure(folder: Path, job: str, name: str, state: str) -> ScfsError:
    """Log the last lines of the process that failed, and return an error with the last one."""
    rank = failed_rank(folder, job)
    path = rank_log(folder, job, rank)
    lines = lines_of(path)[-SHOWN:]
    for line in lines:
        log(f"  rank {rank}: {line}")
    return ScfsError(f"{name}: job {job} {state}: rank {rank}: {lines[-1] if lines else 'said nothing'} ({path})")
