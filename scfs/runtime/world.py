"""Rank and world size of this process, found in the launcher's environment variables. This module needs no torch."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from scfs.errors import ScfsError

TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
SRUN = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")
"""Variables of the step, not of the job: the batch script of a job with several tasks is a single process."""
SUBMITIT_LOCAL = ("SUBMITIT_LOCAL_GLOBALID", "SUBMITIT_LOCAL_NTASKS", "SUBMITIT_LOCAL_LOCALID")
LOOPBACK = "127.0.0.1"
ADDRESS = ("MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Rendezvous:
    """A meeting point of processes without MASTER_ADDR and MASTER_PORT; see `scfs.runtime.rendezvous`."""

    host: str
    """Name of the machine on which the first process runs."""
    name: str
    """Text that differs between all jobs, and between two starts of one job."""


@dataclass(frozen=True)
class World:
    """The place of one process among `size`; the defaults are those of a single process."""

    rank: int = 0
    """Number of this process, from 0; process 0 writes files and log lines."""
    size: int = 1
    """Number of processes."""
    local_rank: int = 0
    """Number of this process on its machine, from 0; also the number of its GPU."""
    core_sharers: int = 1
    """Number of processes that share the cores which this one may use."""
    rendezvous: Rendezvous | None = None
    """None: MASTER_ADDR and MASTER_PORT are set, or there is one process only."""

    def shard(self, images: int) -> slice:
        """Return which of `images` consecutive images this process has; if uneven, the first ranks have one more."""
        each, more = divmod(images, self.size)
        start = self.rank * each + min(self.rank, more)
        return slice(start, start + each + (self.rank < more))

    def require_share(self, part: int) -> None:
        """Refuse a part of a batch in which some process would have no image.

        Raises:
            ScfsError: the part has fewer images than there are processes.
        """
        if part < self.size:
            raise ScfsError(f"batch / accumulate = {part} images, fewer than the {self.size} processes that share them")


def find_world(environment: Mapping[str, str] = os.environ) -> World:
    """Read what torchrun, Submitit's local executor or srun have set; otherwise there is one process.

    Raises:
        ScfsError: a variable is missing or not a number, or the numbers contradict each other.
    """
    if "RANK" in environment and "WORLD_SIZE" in environment:
        return _torchrun(environment)
    if SUBMITIT_LOCAL[0] in environment:
        rank, size, local_rank = _numbers(environment, SUBMITIT_LOCAL)
        return World(rank, size, local_rank, size, Rendezvous(LOOPBACK, environment["SUBMITIT_LOCAL_JOB_ID"]))
    if all(name in environment for name in SRUN) and environment["SLURM_STEP_NUM_TASKS"] != "1":
        rank, size, local_rank = _numbers(environment, SRUN)
        # SLURM binds each task to cores of its own.
        return World(rank, size, local_rank, 1, _rendezvous_of_step(environment))
    return World()


def _torchrun(environment: Mapping[str, str]) -> World:
    rank, size, local_rank = _numbers(environment, TORCHRUN)
    # torchrun lets its processes share a machine's cores.
    core_sharers = _number(environment, "LOCAL_WORLD_SIZE") if "LOCAL_WORLD_SIZE" in environment else 1
    if size > 1 and (missing := [name for name in ADDRESS if name not in environment]):
        raise ScfsError(f"WORLD_SIZE={size}, but {missing[0]} is not set: start the processes with torchrun")
    return World(rank, size, local_rank, core_sharers)


def _rendezvous_of_step(environment: Mapping[str, str]) -> Rendezvous | None:
    """Return the step's first node; the name differs after a requeue, which keeps the job's number."""
    if all(name in environment for name in ADDRESS):
        return None
    nodes = environment.get("SLURM_STEP_NODELIST", "")
    found = re.match(r"([^\[,]+)(?:\[(\d+)[^\]]*\]([^,]*))?", nodes)  # n1,n2 or n[01-04,07] or n[1-2]-ib
    if found is None:
        raise ScfsError(f"SLURM_STEP_NODELIST={nodes!r}: not a list of nodes")
    names = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
    host = LOOPBACK if environment.get("SLURM_STEP_NUM_NODES") == "1" else "".join(filter(None, found.groups()))
    return Rendezvous(host, ".".join(environment.get(n, "0") for n in names))


def _numbers(environment: Mapping[str, str], names: tuple[str, ...]) -> list[int]:
    """Return rank, world size and local rank."""
    rank, size, local_rank = (_number(environment, name) for name in names)
    if not 0 <= rank < size:
        raise ScfsError(f"{names[0]}={rank}: with {names[1]}={size} only 0 to {size - 1} are allowed")
    return [rank, size, local_rank]


def _number(environment: Mapping[str, str], name: str) -> int:
    try:
        return int(environment[name])
    except KeyError:
        raise ScfsError(f"{name} is not set, though other variables of torchrun or SLURM are") from None
    except ValueError:
        raise ScfsError(f"{name}={environment[name]!r}: not a whole number") from None
