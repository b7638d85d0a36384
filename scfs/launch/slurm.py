"""Questions to SLURM, by its own commands. They work without accounting: squeue and scontrol, never sacct."""

import getpass
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from scfs.errors import ScfsError

ANSWER_WAIT = 120.0
"""Seconds that a command may take: a busy controller answers late."""
LIVE = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT")
QUEUED_AGAIN = ("REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD")
UNKNOWN = "UNKNOWN"
"""State of a job whose controller does not answer at the moment."""
GONE = "GONE"
"""State of a job that the controller does not know any more: it has ended some minutes ago."""


class ClusterJob(NamedTuple):
    """A job of this user, as SLURM knows it."""

    id: str
    comment: str
    state: str
    reason: str
    """Reason why it waits, or the nodes on which it runs."""
    folder: Path
    """Working folder."""


class UnreachableError(ScfsError):
    """SLURM's controller does not answer."""


class NoClusterError(ScfsError):
    """This machine belongs to no SLURM cluster."""


def live_jobs_here() -> list[ClusterJob]:
    """List the user's jobs that wait or run; none where there is no cluster.

    Raises:
        UnreachableError: there is one, but its controller does not answer.
    """
    try:
        return live_jobs()
    except NoClusterError:
        return []


def live_jobs() -> list[ClusterJob]:
    """List the user's jobs that wait or run.

    Raises:
        NoClusterError: this machine belongs to no cluster.
        UnreachableError: the controller does not answer; nothing is known then, and nothing must be submitted.
    """
    said = _ask("squeue", "--noheader", f"--user={getpass.getuser()}", "--format=%i|%T|%R|%Z|%k")
    lines = (line.split("|", 4) for line in said.splitlines())
    return [ClusterJob(job, comment.strip(), state, why, Path(folder)) for job, state, why, folder, comment in lines]


def state_of(job: str) -> tuple[str, str]:
    """Return a job's state in SLURM's words (also UNKNOWN, GONE), and why it waits or where it runs."""
    try:
        said = _ask("squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T|%R").strip()
    except UnreachableError as error:
        if "Invalid job id" in str(error):
            return GONE, ""
        return UNKNOWN, str(error)
    state, _, reason = said.partition("|")
    return (state or GONE), reason


def is_live(state: str) -> bool:
    """True if a job in this state may still compute."""
    return state in LIVE or state in QUEUED_AGAIN or state == UNKNOWN


def cancel(job: str, patience: float = 120.0) -> bool:
    """End a job, and wait until it has ended: its processes may still be saving. False if it lives on after that."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        subprocess.run(["scancel", job], capture_output=True, timeout=ANSWER_WAIT)
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
        run = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_WAIT)
    except FileNotFoundError:
        raise NoClusterError(f"{command[0]}: not found; the executor slurm needs SLURM's commands") from None
    except subprocess.TimeoutExpired:
        raise UnreachableError(f"{command[0]}: no answer in {ANSWER_WAIT:g} s") from None
    if run.returncode and "configuration source" in run.stderr:
        raise NoClusterError(f"{command[0]}: this machine belongs to no SLURM cluster (no slurm.conf was found)")
    if run.returncode:
        raise UnreachableError(f"{command[0]}: {run.stderr.strip() or run.stdout.strip()}")
    return run.stdout
