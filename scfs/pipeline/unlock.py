"""The command `scfs unlock`: clear a killed Snakemake's lock in this folder, if nothing that it started lives on."""

import os
from pathlib import Path

from scfs.errors import ScfsError
from scfs.io.locks import is_held
from scfs.launch import slurm

SNAKEMAKE_LOCKS = Path(".snakemake", "locks")


def unlock() -> str:
    """Clear the lock, and return one line that says so.

    Raises:
        ScfsError: a Snakemake works in this folder, or a training, a launcher or a job of the cluster that it started.
    """
    if not any(SNAKEMAKE_LOCKS.glob("*")):
        return f"{SNAKEMAKE_LOCKS}: no lock: nothing to do"
    jobs = slurm.live_jobs_here()
    # Those of pre-trainings are adopted by the next launcher; the others Snakemake submitted itself.
    adoptable = [job.comment.split(":")[1] for job in jobs if job.comment.startswith("scfs:")]
    own = [f"job {job.id}" for job in jobs if not job.comment.startswith("scfs:") and job.folder == Path.cwd()]
    if holders := [*_snakemakes(), *_trainings(adoptable), *own]:
        raise ScfsError(f"{SNAKEMAKE_LOCKS}: not cleared: {', '.join(holders[:4])} still works in this folder")
    for lock in SNAKEMAKE_LOCKS.glob("*"):
        lock.unlink(missing_ok=True)
    return f"{SNAKEMAKE_LOCKS}: cleared: no Snakemake, no training and no job works in this folder"


def _snakemakes() -> list[str]:
    """Name Snakemake's and scfs's processes on this machine whose working folder is this one."""
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


def _trainings(adoptable: list[str]) -> list[str]:
    """Name the locks that are held, also by other machines' processes; none of a run whose job will be adopted."""
    runs = {name.rpartition("-")[0] for name in adoptable}
    of_launchers = sorted(Path("runs", "jobs").glob("*/lock"))
    of_runs = [lock for lock in Path("runs").glob("*/lock") if lock.parent.name.rpartition("-")[0] not in runs]
    return [str(lock) for lock in of_launchers + sorted(of_runs) if is_held(lock)]
