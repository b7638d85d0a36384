"""Which process of a training this is, from what the launcher left in the environment. Needs no torch."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from scfs.errors import ScfsError

TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
SRUN = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")
"""Of the step, not of the job: the batch script of a job with several tasks is a single process."""
SUBMITIT_LOCAL = ("SUBMITIT_LOCAL_GLOBALID", "SUBMITIT_LOCAL_NTASKS", "SUBMITIT_LOCAL_LOCALID")
ADDRESS = ("MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Meeting:
    """Where processes find each other when nobody has said so; see `scfs.runtime.rendezvous`."""

    host: str
    """Machine of the first process."""
    name: str
    """What tells this start of this job from every other one."""


@dataclass(frozen=True)
class World:
    """One of `size` processes; the defaults are those of a process that is alone."""

    rank: int = 0
    """Number of this process, from 0; the first one writes what all have computed."""
    size: int = 1
    """Processes in all."""
    local_rank: int = 0
    """Number of this process on its machine, from 0; also the number of its GPU."""
    sharing: int = 1
    """Processes that share the cores which this one sees."""
    meeting: Meeting | None = None
    """None: MASTER_ADDR and MASTER_PORT say it, or the process is alone."""

    def part(self, images: int) -> slice:
        """Which of `images` consecutive images are this process's: the first ranks have one more if it is uneven."""
        each, more = divmod(images, self.size)
        start = self.rank * each + min(self.rank, more)
        return slice(start, start + each + (self.rank < more))


def find_world(environment: Mapping[str, str] = os.environ) -> World:
    """What torchrun, Submitit's local executor or srun say; else this process is alone.

    Raises:
        ScfsError: a variable is missing or no number, or the numbers contradict each other.
    """
    if "RANK" in environment and "WORLD_SIZE" in environment:
        return _torchrun(environment)
    if SUBMITIT_LOCAL[0] in environment:
        rank, size, local_rank = _numbers(environment, SUBMITIT_LOCAL)
        return World(rank, size, local_rank, size, Meeting("127.0.0.1", environment["SUBMITIT_LOCAL_JOB_ID"]))
    if all(name in environment for name in SRUN) and environment["SLURM_STEP_NUM_TASKS"] != "1":
        rank, size, local_rank = _numbers(environment, SRUN)
        return World(rank, size, local_rank, 1, _meeting_of_step(environment))  # SLURM binds each task to its own cores
    return World()


def _torchrun(environment: Mapping[str, str]) -> World:
    rank, size, local_rank = _numbers(environment, TORCHRUN)
    # torchrun lets its processes share a machine's cores.
    sharing = _number(environment, "LOCAL_WORLD_SIZE") if "LOCAL_WORLD_SIZE" in environment else 1
    if size > 1 and (missing := [name for name in ADDRESS if name not in environment]):
        raise ScfsError(f"WORLD_SIZE={size}, but {missing[0]} is not set: start the processes with torchrun")
    return World(rank, size, local_rank, sharing)


def _meeting_of_step(environment: Mapping[str, str]) -> Meeting | None:
    """On the step's first node; a requeued job keeps its number, but not the count of its restarts."""
    if all(name in environment for name in ADDRESS):
        return None
    nodes = environment.get("SLURM_STEP_NODELIST", "")
    found = re.match(r"([^\[,]+)(?:\[(\d+)[^\]]*\]([^,]*))?", nodes)  # n1,n2 or n[01-04,07] or n[1-2]-ib
    if found is None:
        raise ScfsError(f"SLURM_STEP_NODELIST={nodes!r}: no list of nodes")
    names = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
    return Meeting("".join(part or "" for part in found.groups()), ".".join(environment.get(n, "0") for n in names))


def _numbers(environment: Mapping[str, str], names: tuple[str, ...]) -> list[int]:
    """Rank, size and local rank."""
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
