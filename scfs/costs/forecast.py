"""What a pre-training will take, said before its job is submitted: batch and rate are often wrong."""

import json
import shutil
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from scfs import paths
from scfs.config.identity import identity
from scfs.config.pretrain import Pretrain
from scfs.costs.gpu import PEAK, SHARE
from scfs.data.manifest import numbers_of_images
from scfs.errors import ScfsError
from scfs.io.atomic import write_json
from scfs.io.progress import log
from scfs.launch.code_snapshot import code_version
from scfs.launch.settings import Launch, load_launch

CPU = 5e10
"""Operations per second of a process on a CPU: the demo's SCFS, 8 epochs of 6000 images at 0.7 GFLOP, took 679 s on one
core of an AMD EPYC (Turin) in bf16."""


class Counts(NamedTuple):
    """What `scfs plan` counts of a training."""

    flops: float
    """Operations per image."""
    bytes: int
    """On the disk: exported weights and the states that are kept."""


def counts(settings: Pretrain) -> Counts:
    """Counted by torch once and kept, so that a launcher that comes back to its job need not import torch."""
    path = paths.counts(f"{identity('pretrain', settings)}-{code_version()}")
    try:
        return Counts(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):  # not there, or not whole
        pass
    from scfs.costs.plan import training_bytes, training_flops

    found = Counts(training_flops(settings), sum(training_bytes(settings)))
    with suppress(ScfsError):  # a full disk is said more clearly below
        write_json(path, found._asdict())
    return found


@dataclass(frozen=True)
class Forecast:
    """Of one run with these launch settings. The speed is computed, not measured."""

    run: str
    settings: Pretrain
    images: int
    """Of the split."""
    launch: Launch

    @cached_property
    def counts(self) -> Counts:
        """Of the settings."""
        return counts(self.settings)

    @property
    def steps(self) -> int:
        """Optimiser steps."""
        return self.images // self.settings.batch * self.settings.epochs

    @property
    def images_per_second(self) -> float:
        """Of all processes together, at a tenth of an H100's peak per GPU (scfs.gpu), or at `CPU` per process."""
        gpus, processes = self.launch.nodes * self.launch.gpus_per_node, self.launch.nodes * self.launch.processes
        speed = gpus * PEAK * SHARE if gpus else processes * CPU
        return speed / self.counts.flops if self.settings.epochs else 1.0

    @property
    def hours(self) -> float:
        """Of computing, without waiting in the queue."""
        return self.steps * self.settings.batch / self.images_per_second / 3600

    def announced(self) -> "Forecast":
        """Log it, and return it.

        Raises:
            ScfsError: the batch has fewer images than there are processes, or the disk has no room.
        """
        settings, processes = self.settings, self.launch.nodes * self.launch.processes
        part = settings.batch // settings.accumulate
        if part < processes:
            raise ScfsError(
                f"{self.run}: {self.launch.nodes} x {self.launch.processes} processes share parts of {part} images"
                f" (batch / accumulate); at most {part} processes are allowed"
            )
        free = shutil.disk_usage(Path.cwd()).free
        log(
            f"{self.run}: batch {settings.batch} = {processes} processes x {part / processes:g} images"
            + (f" x {settings.accumulate} parts" if settings.accumulate > 1 else "")
            + f", lr {settings.optimizer.lr:g} x batch / 256 = {settings.optimizer.lr * settings.batch / 256:g},"
            f" {settings.epochs} epochs = {self.steps} steps"
        )
        log(
            f"{self.run}: about {self.images_per_second:,.0f} images/s, {self.hours:,.1f} h (computed, not measured);"
            f" {self.counts.bytes / 1e9:,.1f} GB of disk, {free / 1e9:,.0f} GB are free"
        )
        if self.counts.bytes > free:
            raise ScfsError(
                f"{Path.cwd()}: {free / 1e9:.1f} GB free, {self.counts.bytes / 1e9:.1f} GB needed for {self.run}"
            )
        return self


def forecast(run: str, settings: Pretrain, manifest: Path) -> Forecast:
    """What a run of a prepared data set will take with the launch settings of this occasion.

    Raises:
        ScfsError: there is no such manifest or split, or the launch settings are wrong.
    """
    images = numbers_of_images(manifest)
    if settings.split not in images:
        raise ScfsError(f"{manifest}: split {settings.split!r}: not among {sorted(images)}")
    return Forecast(run, settings, images[settings.split], load_launch())
