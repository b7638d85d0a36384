"""Do a stage's work in this process, or in the processes of a job on this machine or on the cluster."""

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from scfs.config.identity import VERSION_OF, identity
from scfs.io.progress import log
from scfs.io.results import sha256_of
from scfs.launch.container import enter
from scfs.launch.payload import StageCall
from scfs.launch.settings import load_launch
from scfs.paths import job_folder
from scfs.runtime.world import find_world


def submits(stage: str) -> bool:
    """True if a stage's work is done by a job; never in one of the processes that a launcher has started already.

    Raises:
        ScfsError: the settings of `scfs.launch.settings` are wrong.
    """
    settings = load_launch()
    return settings.executor != "none" and stage in settings.stages and find_world().size == 1


def start(
    stage: str, name: str, call: StageCall, parameters: Any, files: Iterable[Path], hours: float = 0, job: bool = True
) -> None:
    """Do the work of a stage, and return when it is done.

    Args:
        stage: pretrain, evaluate, tune, finetune or detect.
        name: name of the run, with that of the evaluation if it is one.
        call: the work.
        parameters: all that defines the work; with the files it tells which job is of the same work.
        files: files that the work reads.
        hours: planned hours; the number of time limits that a job may run into follows from them. 0: unknown.
        job: False for work that is always done in this process.

    Raises:
        ScfsError: the work failed, or the settings of `scfs.launch.settings` are wrong.
    """
    settings = load_launch()
    if settings.image and stage in settings.stages and (settings.executor != "slurm" or not job):
        enter(settings)
    if not (job and submits(stage)):
        call()
        return
    from scfs.launch.launcher import launch

    inputs = {str(path): sha256_of(path) for path in files}
    found = identity(VERSION_OF.get(stage, stage), {"parameters": parameters, "torch_threads": call.threads}, inputs)
    launch(call, job_folder(name, found), settings, name=name, time_limits=settings.time_limits(hours))


def process_count(gpus: int, images_per_batch: int) -> int:
    """Return the largest number of processes, one for each of at most `gpus` GPUs, that share a batch evenly."""
    return max((number for number in range(1, gpus + 1) if images_per_batch % number == 0), default=1)


def restart_on_every_gpu(device: str, images_per_batch: int, environment: Mapping[str, str] = os.environ) -> None:
    """Replace this process by several of the same command, if it is alone and sees several GPUs; else return.

    Args:
        device: "auto", "cpu" or "cuda", as the user asked.
        images_per_batch: images that the processes share in each step.
        environment: environment variables, among them those of a launcher.
    """
    if device == "cpu" or find_world(environment).size > 1:
        return
    import torch

    number = process_count(torch.cuda.device_count(), images_per_batch)
    if number == 1:
        return
    log(f"{number} processes, one for each of {number} GPUs")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(number)]
    os.execv(sys.executable, [sys.executable, *torchrun, "-m", "--", "scfs.cli", *sys.argv[1:]])
