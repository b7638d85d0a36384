"""Which process of a training this is, from what the launcher left in the environment. Needs no torch."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from scfs.errors import ScfsError

TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
SLURM = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")
ADDRESS = ("MASTER_ADDR", "MASTER_PORT")


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

    def part(self, images: int) -> slice:
        """Which of `images` consecutive images are this process's: the first ranks have one more if it is uneven."""
        each, more = divmod(images, self.size)
        start = self.rank * each + min(self.rank, more)
        return slice(start, start + each + (self.rank < more))


def find_world(environment: Mapping[str, str] = os.environ) -> World:
    """What torchrun says, or SLURM where an address to meet at is given too; else this process is alone.

    Raises:
        ScfsError: a variable is missing or no number, or the numbers contradict each other.
    """
    if "RANK" in environment and "WORLD_SIZE" in environment:
        names = TORCHRUN
    elif all(name in environment for name in (*SLURM, *ADDRESS)):
        names = SLURM
    else:
        return World()
    rank, size, local_rank = (_number(environment, name) for name in names)
    # torchrun lets its processes share a machine's cores; SLURM binds each task to its own.
    sharing = _number(environment, "LOCAL_WORLD_SIZE") if "LOCAL_WORLD_SIZE" in environment else 1
    if not 0 <= rank < size:
        raise ScfsError(f"{names[0]}={rank}: with {names[1]}={size} only 0 to {size - 1} are allowed")
    if size > 1 and (missing := [name for name in ADDRESS if name not in environment]):
        raise ScfsError(f"{names[1]}={size}, but {missing[0]} is not set: start the processes with torchrun")
    return World(rank, size, local_rank, sharing)


def _number(environment: Mapping[str, str], name: str) -> int:
    try:
        return int(environment[name])
    except KeyError:
        raise ScfsError(f"{name} is not set, though other variables of torchrun or SLURM are") from None
    except ValueError:
        raise ScfsError(f"{name}={environment[name]!r}: not a whole number") from None
