"""Progress of a study's pre-trainings, and the last lines of one that failed. Needs no torch."""

import json
import re
from pathlib import Path

from scfs import paths
from scfs.config.study import Study
from scfs.data.manifest import numbers_of_images
from scfs.errors import ScfsError
from scfs.io.locks import is_held
from scfs.io.text_table import listing
from scfs.launch import slurm
from scfs.launch.logs import failed_rank, lines_of, newest_job, rank_log, ranks

IDENTITY = "[0-9a-f]" * 16
COLUMNS = ("run", "state", "step", "loss", "images/s", "left")


def status(study: Study) -> str:
    """Return a table with a line for each pre-training: state, job, step, loss, speed, and the hours that are left."""
    jobs = slurm.live_jobs_here()
    trained = [run for run in study.runs if study.imported(run) is None and study.run(run).epochs]
    rows = [COLUMNS, *(_row(study, run, jobs) for run in trained)]
    return listing(rows)


def _row(study: Study, run: str, jobs: list[slurm.ClusterJob]) -> tuple[str, ...]:
    settings = study.run(run)
    folder = _newest(Path("runs"), run)
    done = _step(folder)
    manifest = paths.manifest(settings.dataset)
    images = numbers_of_images(manifest).get(settings.split, 0) if manifest.is_file() else 0
    total = images // settings.batch * settings.epochs
    latest = _latest(folder)
    speed = latest.get("images_per_second", 0.0)
    hours = (total - done) * settings.batch / speed / 3600 if speed and total else None
    finished = paths.weights(run).is_file() and paths.result(run, "pretrain").is_file()
    return (
        run,
        "done" if finished else _state(run, folder, done, jobs),
        f"{done}/{total or '?'}",
        f"{latest['loss']:.4g}" if "loss" in latest else "",
        f"{speed:.0f}" if speed else "",
        f"{hours:.1f} h" if hours is not None and not finished else "",
    )


def _state(run: str, folder: Path | None, done: int, jobs: list[slurm.ClusterJob]) -> str:
    owner = _newest(Path("runs", "jobs"), run)
    if owner is not None:
        token = owner / "token"
        comment = f"scfs:{owner.name}:{token.read_text() if token.is_file() else ''}"
        for job in jobs:
            if job.comment == comment:
                return f"job {job.id} {job.state} {job.reason}"
    if folder is not None and is_held(folder / "lock"):
        return "training here"
    return "stopped" if done else "not started"


def _newest(folder: Path, run: str) -> Path | None:
    """Return the run's folder that was changed last."""
    return max(folder.glob(f"{run}-{IDENTITY}"), key=lambda path: path.stat().st_mtime, default=None)


def _step(folder: Path | None) -> int:
    names = (path.name for path in folder.glob("checkpoints/step-*.pt")) if folder else ()
    return max((int(found[1]) for name in names if (found := re.match(r"step-(\d+)-", name))), default=0)


def _latest(folder: Path | None) -> dict[str, float]:
    try:
        found = json.loads((folder / "dvclive" / "metrics.json").read_text()) if folder else {}
    except (OSError, ValueError):  # not yet there, or being written
        return {}
    return {key: value for key, value in found.items() if isinstance(value, float | int)}


def logs(run: str, rank: int | None, lines: int) -> str:
    """Return the last lines of a process of the run's last job: of the one that failed, unless `rank` names another.

    Raises:
        ScfsError: the run has had no job, or that had no such process.
    """
    folder = _newest(Path("runs", "jobs"), run)
    job = newest_job(folder) if folder else None
    if folder is None or job is None:
        raise ScfsError(f"{run}: no job of it here (runs/jobs/{run}-*); without a job, see logs/pretrain/{run}.log")
    known = ranks(folder, job)
    chosen = failed_rank(folder, job) if rank is None else rank
    if chosen not in known:
        raise ScfsError(f"{run}: job {job}: --rank {chosen}: not among {known}")
    path = rank_log(folder, job, chosen)
    return "\n".join([f"{path}: rank {chosen} of {len(known)}", *lines_of(path)[-lines:]])
