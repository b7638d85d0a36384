"""One job for one run: adopt it if it is there, else submit it, and follow it to its end.

Whatever ends the launcher, at whatever moment, a run has at most one job, and the next launcher finds it:
* one launcher at a time, by a lock in the job's folder that its sbatch holds too;
* under the lock SLURM is asked for a live job with the run's comment, and only then is one submitted.
SIGINT and SIGTERM cancel the job. SIGHUP (the ssh session is gone), SIGKILL, and the end of the Snakemake or DVC above
leave it running. Processes of this machine end with the launcher in every case, after saving where that is possible.
"""

import fcntl
import os
import platform
import secrets
import select
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO

from scfs.atomic import write_text
from scfs.errors import ScfsError
from scfs.launch import slurm, submission
from scfs.launch.code import keep_code
from scfs.launch.logs import SHOWN, Follower, failed_rank, lines_of, rank_log
from scfs.launch.payload import Payload
from scfs.launch.settings import Launch
from scfs.launch.work import Work
from scfs.progress import log

TICK = 0.5
"""Seconds between two looks at the log."""
LOCKED = 30.0
"""Seconds that a launcher waits for the lock: a killed one's sbatch may still hold it."""
SAVING = 120.0
"""Seconds that the processes of this machine have to save."""


def launch(work: Work, folder: Path, settings: Launch, *, name: str, time_limits: int) -> None:
    """Do `work` by a job, and return when that has ended well.

    Args:
        work: what its processes do.
        folder: the job's own; it carries the run's identity in its name.
        settings: executor local or slurm, and what it needs.
        name: of the run.
        time_limits: how many the job may run into before it gives up.

    Raises:
        ScfsError: the job failed, was cancelled, or was left running; or another launcher follows it.
    """
    with _sole_launcher(folder) as lock, _signals() as received, _callers() as gone:
        code = keep_code((folder / "code").resolve())
        if settings.executor == "local":
            payload = Payload(work, folder.resolve(), code, launcher=os.getpid())
            _follow_local(submission.LocalProcesses(payload, settings), folder, name, received, gone)
            return
        comment = f"scfs:{folder.name}:{_token(folder)}"
        job = _adopted(comment, settings)
        adopted = job is not None
        if job is None:
            seconds = settings.minutes * 60 - settings.warning_seconds
            payload = Payload(work, folder.resolve(), code, seconds, time_limits)
            job = submission.submit(payload, name, comment, settings, lock)
            log(f"submitted job {job}: {settings.nodes} x {settings.processes} processes, {settings.minutes} min")
        else:
            log(f"job {job} of this run is there already: following it")
        _follow(job, Follower(folder, job, from_now=adopted), folder, name, settings, received, gone)


@contextmanager
def _sole_launcher(folder: Path) -> Iterator[IO[str]]:
    """Hold the folder's lock."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as file:
        end = time.monotonic() + LOCKED
        while not _locked(file):
            file.seek(0)
            holder = file.read().strip()
            if time.monotonic() > end:
                raise ScfsError(f"{folder}: {holder or 'another launcher'} follows this run's job")
            time.sleep(TICK)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()
        yield file


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _token(folder: Path) -> str:
    """Sets this folder's jobs apart from those of the same run in another folder."""
    file = folder / "token"
    if not file.is_file():
        write_text(file, secrets.token_hex(6))
    return file.read_text()


def _adopted(comment: str, settings: Launch) -> str | None:
    """The live job with this comment; none means that it is safe to submit one."""
    for attempt in range(5):
        try:
            found = [job.id for job in slurm.live_jobs() if job.comment == comment]
            return found[0] if found else None
        except slurm.UnreachableError as error:
            if attempt == 4:
                raise
            log(f"warning: {error}; asking again")
            time.sleep(settings.poll_seconds)
    return None


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect what is to end the launcher; SIGHUP stays ignored under nohup."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)

    watched = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        watched.append(signal.SIGHUP)
    before = {number: signal.signal(number, note) for number in watched}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _callers() -> Iterator[list[int]]:
    """Handles of the Snakemake or DVC processes above this one, that tell when they end, however that happens."""
    handles = []
    pid = os.getppid()
    while pid > 1:
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if any(Path(os.fsdecode(word)).name in ("snakemake", "dvc") for word in words[:3]):
                handles.append(os.pidfd_open(pid))
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            break
    try:
        yield handles
    finally:
        for handle in handles:
            os.close(handle)


def _left(received: list[int], callers: list[int]) -> str:
    """Why the launcher is to leave without ending the job; empty if it is not."""
    if signal.SIGHUP in received:
        return "SIGHUP"
    return "the process that started this one is gone" if select.select(callers, [], [], 0)[0] else ""


def _follow(job: str, folder: Path, name: str, settings: Launch, received: list[int], callers: list[int]) -> None:
    follower, asked, said = Follower(folder, job), 0.0, ("", "")
    while True:
        follower.pass_on()
        if ending := next((number for number in received if number != signal.SIGHUP), 0):
            ended = slurm.cancel(job)
            follower.pass_on()
            left = "" if ended else ", but it has not ended yet"
            raise ScfsError(f"{signal.Signals(ending).name}: job {job} is cancelled{left}")
        if reason := _left(received, callers):
            raise ScfsError(f"{reason}: job {job} goes on; the same command follows it again")
        if time.monotonic() - asked >= settings.poll_seconds:
            asked, state = time.monotonic(), slurm.state_of(job)
            if state != said:
                log(f"job {job}: {' '.join(state)}".rstrip())
                said = state
            if not slurm.is_live(state[0]):
                break
        time.sleep(TICK)
    time.sleep(TICK)
    follower.pass_on()
    if state[0] != "COMPLETED" and not (state[0] == slurm.GONE and submission.ended_well(folder, job)):
        raise _failure(folder, job, name, state[0])


def _follow_local(
    job: submission.LocalProcesses, folder: Path, name: str, received: list[int], callers: list[int]
) -> None:
    follower = Follower(folder, job.id)
    follower.pass_on()
    while job.ended() is None:
        follower.pass_on()
        reason = signal.Signals(received[0]).name if received else _left(received, callers)
        if reason:
            job.stop(SAVING)
            follower.pass_on()
            raise ScfsError(f"{reason}: the processes have ended; start again to resume")
        time.sleep(TICK)
    follower.pass_on()
    if not submission.ended_well(folder, job.id):
        raise _failure(folder, job.id, name, "FAILED")


def _failure(folder: Path, job: str, name: str, state: str) -> ScfsError:
    """Say what the failed process said last."""
    rank = failed_rank(folder, job)
    path = rank_log(folder, job, rank)
    lines = lines_of(path)[-SHOWN:]
    for line in lines:
        log(f"  rank {rank}: {line}")
    return ScfsError(f"{name}: job {job} {state}: rank {rank}: {lines[-1] if lines else 'said nothing'} ({path})")
