"""Clear the lock that a killed Snakemake has left in this folder, if nothing that it started lives on."""

import os
import shutil
from pathlib import Path

from scfs.errors import ScfsError
from scfs.launch import slurm
from scfs.launch.status import is_held

SNAKEMAKE_LOCKS = Path(".snakemake", "locks")


def unlock() -> str:
    """Clear the lock, and say so in one line.

    Raises:
        ScfsError: a Snakemake works in this folder, or a training, a launcher or a job of the cluster that it started.
    """
    if not any(SNAKEMAKE_LOCKS.glob("*")):
        return f"{SNAKEMAKE_LOCKS}: no lock: nothing to do"
    if holders := [*_snakemakes(), *_trainings(), *_jobs()]:
        raise ScfsError(f"{SNAKEMAKE_LOCKS}: not cleared: {', '.join(holders[:4])} still works in this folder")
    for lock in SNAKEMAKE_LOCKS.glob("*"):
        lock.unlink(missing_ok=True)
    return f"{SNAKEMAKE_LOCKS}: cleared: no Snakemake, no training and no job works in this folder"


def _snakemakes() -> list[str]:
    """Processes of this machine, and the stages that they run, with this working folder."""
    here, found = Path.cwd(), []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = [Path(os.fsdecode(word)).name for word in (process / "cmdline").read_bytes().split(b"\0")[:3]]
            mine = int(process.name) != os.getpid() and (process / "cwd").resolve() == here
        except OSError:
            continue
        if mine and {"snakemake", "scfs"} & set(words):
            found.append(f"{next(word for word in words if word in ('snakemake', 'scfs'))} (process {process.name})")
    return found


def _trainings() -> list[str]:
    """Locks that are held: perhaps by a process of another machine. Not those of jobs, which find their lock again."""
    return [str(lock) for lock in sorted(Path("runs").glob("**/lock")) if is_held(lock) and not _is_adoptable(lock)]


def _is_adoptable(lock: Path) -> bool:
    """Whether the holder is a pre-training's job, which the next launcher adopts."""
    return any(Path("runs", "jobs").glob(f"{lock.parent.name.rpartition('-')[0]}-*/token"))


def _jobs() -> list[str]:
    """Jobs that Snakemake submitted itself; those of pre-trainings are adopted by the next launcher."""
    if shutil.which("squeue") is None:
        return []
    own = {job.id for job in slurm.live_jobs() if job.comment.startswith("scfs:")}
    return [f"job {job}" for job, folder in slurm.folders().items() if folder == Path.cwd() and job not in own]
