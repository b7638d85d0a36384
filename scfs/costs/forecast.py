"""The estimate of a pre-training that is logged before its job is submitted: batch and rate are often wrong."""

import json
import shutil
from contextlib import suppress
from pathlib import Path

from scfs import paths
from scfs.config.identity import identity
from scfs.config.pretrain import Pretrain
from scfs.costs.machine import CPU, PEAK, SHARE, Work
from scfs.data.manifest import numbers_of_images
from scfs.errors import ScfsError
from scfs.io.atomic import write_json
from scfs.io.progress import log
from scfs.launch.code_snapshot import code_version
from scfs.launch.settings import Launch, load_launch


def kept_work(settings: Pretrain) -> Work:
    """Count a training once and keep it, so that a launcher that comes back to its job need not import torch."""
    path = paths.counts(f"{identity('pretrain', settings)}-{code_version()}")
    try:
        return Work(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):  # not there, or not whole
        pass
    from scfs.costs.counting import training_work

    work = training_work(settings)
    with suppress(ScfsError):  # a full disk is said more clearly below
        write_json(path, vars(work))
    return work


def forecast(run: str, settings: Pretrain, manifest: Path) -> float:
    """Log what a run of a prepared data set will take with the present launch settings, and return its hours.

    Raises:
        ScfsError: there is no such manifest or split, the launch settings are wrong, or see `announce`.
    """
    images = numbers_of_images(manifest)
    if settings.split not in images:
        raise ScfsError(f"{manifest}: split {settings.split!r}: not among {sorted(images)}")
    return announce(run, settings, images[settings.split], load_launch())


def announce(run: str, settings: Pretrain, images: int, launch: Launch) -> float:
    """Log batch, rate, speed, hours and disk of a training on so many images; return the hours without the queue.

    The speed is computed, not measured: a tenth of an H100's peak for each GPU, or `CPU` for each process.

    Raises:
        ScfsError: the batch has fewer images than there are processes, or the disk has no room.
    """
    processes, gpus = launch.nodes * launch.processes, launch.nodes * launch.gpus_per_node
    part = settings.batch // settings.accumulate
    if part < processes:
        raise ScfsError(
            f"{run}: {launch.nodes} x {launch.processes} processes share parts of {part} images"
            f" (batch / accumulate); at most {part} processes are allowed"
        )
    work, steps = kept_work(settings), images // settings.batch * settings.epochs
    rate = (gpus * PEAK * SHARE if gpus else processes * CPU) / work.flops
    hours = steps * settings.batch / rate / 3600
    disk, free = work.weights + work.states, shutil.disk_usage(Path.cwd()).free
    log(
        f"{run}: batch {settings.batch} = {processes} processes x {part / processes:g} images"
        + (f" x {settings.accumulate} parts" if settings.accumulate > 1 else "")
        + f", lr {settings.optimizer.lr:g} x batch / 256 = {settings.optimizer.lr * settings.batch / 256:g},"
        f" {settings.epochs} epochs = {steps} steps"
    )
    log(
        f"{run}: about {rate:,.0f} images/s, {hours:,.1f} h (computed, not measured);"
        f" {disk / 1e9:,.1f} GB of disk, {free / 1e9:,.0f} GB are free"
    )
    if disk > free:
        raise ScfsError(f"{Path.cwd()}: {free / 1e9:.1f} GB free, {disk / 1e9:.1f} GB needed for {run}")
    return hours
