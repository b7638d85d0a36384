"""What is asked of SLURM, by its own commands. It works without accounting: squeue and scontrol, never sacct."""

import getpass
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from scfs.errors import ScfsError

ASKING = 120.0
"""Seconds that a command may take: a busy controller answers late."""
LIVE = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT")
QUEUED_AGAIN = ("REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD")
UNKNOWN = "UNKNOWN"
"""State of a job whose controller does not answer at the moment."""
GONE = "GONE"
"""State of a job that the controller does not know any more: it has ended some minutes ago."""


class Job(NamedTuple):
    """A job of this user."""

    id: str
    comment: str
    state: str
    reason: str
    """Why it waits, or the nodes on which it runs."""


class UnreachableError(ScfsError):
    """SLURM's controller does not answer."""


class NoClusterError(ScfsError):
    """This machine belongs to no SLURM cluster."""


def live_jobs_here() -> list[Job]:
    """The user's jobs that wait or run; none where there is no cluster.

    Raises:
        UnreachableError: there is one, but its controller does not answer.
    """
    try:
        return live_jobs()
    except NoClusterError:
        return []


def live_jobs() -> list[Job]:
    """The user's jobs that wait or run.

    Raises:
        NoClusterError: this machine belongs to no cluster.
        UnreachableError: the controller does not answer; nothing is known then, and nothing must be submitted.
    """
    said = _ask("squeue", "--noheader", f"--user={getpass.getuser()}", "--format=%i|%T|%R|%k")
    jobs = []
    for line in said.splitlines():
        identifier, state, reason, comment = line.split("|", 3)
        jobs.append(Job(identifier, comment.strip(), state, reason))
    return jobs


def folders() -> dict[str, Path]:
    """Working folder of each job of the user that waits or runs.

    Raises:
        UnreachableError: the controller does not answer.
    """
    said = _ask("squeue", "--noheader", f"--user={getpass.getuser()}", "--format=%i|%Z")
    return {job: Path(folder) for job, folder in (line.split("|", 1) for line in said.splitlines())}


def state_of(job: str) -> tuple[str, str]:
    """A job's state in SLURM's words (also UNKNOWN, GONE), and why it waits or where it runs."""
    try:
        said = _ask("squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T|%R").strip()
    except UnreachableError as error:
        if "Invalid job id" in str(error):
            return GONE, ""
        return UNKNOWN, str(error)
    state, _, reason = said.partition("|")
    return (state or GONE), reason


def is_live(state: str) -> bool:
    """Whether a job in this state may still compute."""
    return state in LIVE or state in QUEUED_AGAIN or state == UNKNOWN


def cancel(job: str, patience: float = 120.0) -> bool:
    """End a job, and wait until it has ended: its processes may still be saving. False if it lives on after that."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        subprocess.run(["scancel", job], capture_output=True, timeout=ASKING)
        if not is_live(state_of(job)[0]):
            return True
        time.sleep(1)
    return False


def requeue(job: str, attempts: int = 5) -> None:
    """Queue a running job again under its number; SLURM ends its processes then.

    Raises:
        UnreachableError: SLURM refuses, or does not answer.
    """
    for attempt in range(attempts):
        try:
            _ask("scontrol", "requeue", job)
            return
        except UnreachableError:
            if attempt == attempts - 1:
                raise
            time.sleep(2**attempt)


def _ask(*command: str) -> str:
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=ASKING)
    except FileNotFoundError:
        raise NoClusterError(f"{command[0]}: not found; the executor slurm needs SLURM's commands") from None
    except subprocess.TimeoutExpired:
        raise UnreachableError(f"{command[0]}: no answer in {ASKING:g} s") from None
    if run.returncode and "configuration source" in run.stderr:
        raise NoClusterError(f"{command[0]}: this machine belongs to no SLURM cluster (no slurm.conf was found)")
    if run.returncode:
        raise UnreachableError(f"{command[0]}: {run.stderr.strip() or run.stdout.strip()}")
    return run.stdout
