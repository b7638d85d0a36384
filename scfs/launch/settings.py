"""Settings of jobs on this machine or cluster: a file of the profile, and environment variables over it.

Nothing of it is part of a study, nor of any identity: the same run may go on elsewhere, on other numbers of nodes.
"""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from scfs.config.base import Config, parse, parse_value
from scfs.config.study import read_yaml
from scfs.errors import ScfsError

FILE = "SCFS_LAUNCH"
"""Environment variable that names the file; empty or not set: no file."""
PREFIX = "SCFS_LAUNCH_"
"""With a key of the file behind it (SCFS_LAUNCH_NODES): a value that counts before the file's."""


class Launch(Config):
    """Where and how the processes of a job are started."""

    model_config = ConfigDict(coerce_numbers_to_str=True)  # an account may be a number

    executor: Literal["none", "local", "slurm"] = "none"
    """none: this process, or those that torchrun or srun has started already. local: several processes of this machine.
    slurm: a SLURM job; both by Submitit."""
    stages: list[Literal["pretrain", "evaluate", "tune", "finetune", "detect"]] = ["pretrain"]
    """Stages that the executor starts; the others do their work in the process that was asked."""
    nodes: int = Field(1, ge=1)
    """Number of machines; local has one."""
    processes_per_node: int | None = Field(None, ge=1)
    """Number of processes on each machine. Default: one for each GPU, or one."""
    gpus_per_node: int = Field(0, ge=0)
    """Number of GPUs, which SLURM is asked for by --gpus-per-node; 0 asks for none."""
    cpus_per_process: int = Field(1, ge=1)
    """Number of cores; torch's threads and the image readers of a process share them."""
    memory_gb: float | None = Field(None, gt=0)
    """Memory per node. Default: the cluster's."""
    minutes: int = Field(24 * 60, ge=1)
    """Time limit of the job; a longer training is queued again and goes on."""
    warning_seconds: int = Field(120, ge=1)
    """Seconds before the time limit at which SLURM warns; a step and saving must fit into them."""
    partition: str | None = None
    """Partition. Default: the cluster's."""
    account: str | None = None
    """Account that is charged. Default: the user's."""
    qos: str | None = None
    """Quality of service."""
    constraint: str | None = None
    """Features of nodes. The precision auto depends on the GPU: a partition with several kinds wants one named here."""
    sbatch: dict[str, str | int | bool] = {}
    """Further options of sbatch, without the dashes: {exclude: node7, signal: ...}."""
    srun: list[str] = []
    """Further arguments of srun."""
    setup: list[str] = []
    """Shell lines before srun on the first node: module load, export NCCL_SOCKET_IFNAME=..."""
    image: Path | None = None
    """Apptainer image (a file, or a folder) in which the processes run; default: the environment of this process."""
    image_arguments: list[str] = []
    """Arguments of apptainer exec, such as --nv or --bind=/datasets."""
    poll_seconds: Annotated[float, Field(gt=0, le=15)] = 10
    """Seconds between two questions to SLURM about a job."""

    @property
    def processes(self) -> int:
        """Number of processes per node."""
        return self.processes_per_node or max(1, self.gpus_per_node)

    def time_limits(self, hours: float) -> int:
        """Number of time limits that a job may run into: three, and twice as many as its planned hours explain."""
        return 3 + math.ceil(2 * hours * 60 / self.minutes)


def load_launch(environment: Mapping[str, str] = os.environ) -> Launch:
    """Read the settings that are in force now.

    Raises:
        ScfsError: the file is missing or wrong, or a variable is; one line that names it.
    """
    file = environment.get(FILE, "")
    values = read_yaml(Path(file)) if file else {}
    settings = parse(Launch, values, file or FILE)
    for name in sorted(name for name in environment if name.startswith(PREFIX)):
        key = name.removeprefix(PREFIX).lower()
        if key not in Launch.model_fields:
            allowed = ", ".join(PREFIX + known.upper() for known in Launch.model_fields)
            raise ScfsError(f"{name}: no such setting; allowed: {allowed}")
        value = parse_value(environment[name], f"{name}={environment[name]!r}")
        settings = parse(Launch, {**settings.model_dump(), key: value}, name)
    if settings.executor == "local" and settings.nodes > 1:
        raise ScfsError(f"{file or FILE}: nodes = {settings.nodes}: the executor local has 1; allowed there: 1")
    return settings
