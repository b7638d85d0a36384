"""Do a stage's work in this process, or by a job on this machine or on the cluster."""

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from scfs.config.identity import identity
from scfs.io.progress import log
from scfs.io.results import sha256_of
from scfs.launch.container import enter
from scfs.launch.payload import Work
from scfs.launch.settings import load_launch
from scfs.paths import job_folder
from scfs.runtime.world import find_world

VERSION_OF = {"tune": "finetune"}
"""Entry of STAGE_VERSIONS, where it is not the stage's name."""


def submits(stage: str) -> bool:
    """Whether a stage's work is done by a job: not in one of the processes that a launcher has started already.

    Raises:
        ScfsError: the settings of `scfs.launch.settings` are wrong.
    """
    settings = load_launch()
    return settings.executor != "none" and stage in settings.stages and find_world().size == 1


def enter_image(stage: str) -> None:
    """Go on in the image, if the settings name one for this stage; see `scfs.launch.container.enter`."""
    settings = load_launch()
    if settings.image and stage in settings.stages:
        enter(settings)


def start(stage: str, name: str, work: Work, parameters: Any, files: Iterable[Path], hours: float = 0) -> None:
    """Do the work of a stage, and return when it is done.

    Args:
        stage: pretrain, evaluate, tune, finetune or detect.
        name: of the run, with that of the evaluation if it is one.
        work: what to do.
        parameters: all that defines the work; with the files it says which job is of the same work.
        files: what the work reads.
        hours: planned; from them follows how many time limits a job may run into. 0: unknown.

    Raises:
        ScfsError: the work failed, or the settings of `scfs.launch.settings` are wrong.
    """
    settings = load_launch()
    if settings.executor != "slurm":
        enter_image(stage)
    if not submits(stage):
        work()
        return
    from scfs.launch.launcher import launch

    inputs = {str(path): sha256_of(path) for path in files}
    found = identity(VERSION_OF.get(stage, stage), {"parameters": parameters, "torch_threads": work.threads}, inputs)
    launch(work, job_folder(name, found), settings, name=name, time_limits=settings.time_limits(hours))


def processes(gpus: int, images_per_batch: int) -> int:
    """Most GPUs, of those that there are, among which a batch can be shared evenly."""
    return max((number for number in range(1, gpus + 1) if images_per_batch % number == 0), default=1)


def on_every_gpu(device: str, images_per_batch: int, environment: Mapping[str, str] = os.environ) -> None:
    """Go on as several processes of this same command, if this one is alone and sees several GPUs; else return.

    Args:
        device: "auto", "cpu" or "cuda", as the user asked.
        images_per_batch: images that the processes share in each step.
        environment: where a launcher leaves its variables.
    """
    if device == "cpu" or find_world(environment).size > 1:
        return
    import torch

    number = processes(torch.cuda.device_count(), images_per_batch)
    if number == 1:
        return
    log(f"{number} processes, one for each of {number} GPUs")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(number)]
    os.execv(sys.executable, [sys.executable, *torchrun, "-m", "--", "scfs.cli", *sys.argv[1:]])
