"""The process group of several processes that train one model, and every collective.

Each collective but `begin_all_reduce_` is an identity in a single process, which needs no process group. CPU tensors
use gloo, GPU tensors NCCL. What only the hosts agree on uses gloo in both cases, so that no host waits for a GPU.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from scfs.errors import ProcessLostError, ScfsError, refusing
from scfs.io import progress
from scfs.runtime.rendezvous import rendezvous
from scfs.runtime.world import World, find_world

T = TypeVar("T")
BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}

_world = World()
_dry_run: list[tuple[str, int]] | None = None
_async_group: dist.ProcessGroup | None = None


def world() -> World:
    """Return the place of this process among all; a single process outside `process_group`."""
    return _world


def is_first() -> bool:
    """True if this process is the one that writes files and log lines."""
    return _world.rank == 0


def local_device(device: torch.device) -> torch.device:
    """Return the device of this process: of several, each takes the GPU of its local rank; a CPU is shared.

    Raises:
        ScfsError: there are fewer GPUs than processes on this machine.
    """
    found = find_world()
    if device.type != "cuda" or found.size == 1:
        return device
    there = torch.cuda.device_count()
    if there == 1 and "SLURM_LOCALID" in os.environ:  # --gpus-per-task: it sees its own alone
        return torch.device("cuda", 0)
    if found.local_rank >= there:
        raise ScfsError(f"process {found.local_rank} of this machine has no GPU: start at most {there} here")
    torch.cuda.set_device(found.local_rank)
    return torch.device("cuda", found.local_rank)


@contextmanager
def process_group(device: torch.device) -> Iterator[World]:
    """Join the processes that a launcher started, if any; inside, only the first process logs.

    An error in one process ends all of them, because it closes the connections on which the others wait. The process
    that failed first reports the error; the others end silently with status 1.
    """
    global _world, _async_group
    found = find_world()
    if found.size == 1:
        yield found
        return
    store = rendezvous(found)
    failures = dist.PrefixStore("scfs", store)
    dist.init_process_group(BACKENDS[device.type], store=store, rank=found.rank, world_size=found.size)
    if device.type == "cpu":
        group = dist.new_group()
        assert not isinstance(group, int)  # an int marks a process outside the group
        _async_group = group
    _world = found
    progress.silence(found.rank > 0)
    ended_well = False
    try:
        yield found
        ended_well = True
    except Exception as error:
        if not _is_first_failure(failures):
            raise SystemExit(1) from error
        progress.silence(False)
        raise
    finally:
        _world, _async_group = World(), None
        if ended_well or device.type == "cpu":  # NCCL would wait for a lost process for ever
            dist.destroy_process_group()


def _is_first_failure(failures: dist.Store) -> bool:
    try:
        return failures.add("failures", 1) == 1
    except RuntimeError:  # the process that keeps the store has died
        return True


@contextmanager
def dry_run(processes: int) -> Iterator[list[tuple[str, int]]]:
    """Act as the first of several processes that are not there: collectives send nothing, and keep what they are given.

    Yields:
        The messages so far: "all_reduce" or "all_gather", and the bytes that each process gives.
    """
    global _world, _dry_run
    _world, _dry_run = World(0, processes), []
    try:
        yield _dry_run
    finally:
        _world, _dry_run = World(), None


def _is_dry(kind: str, given: Tensor) -> bool:
    """True in a dry run, which notes the message."""
    if _dry_run is None:
        return False
    _dry_run.append((kind, given.numel() * given.element_size()))
    return True


def _communicating() -> AbstractContextManager[None]:
    return refusing("another process of this training has ended", RuntimeError, into=ProcessLostError)


@torch.no_grad()
def all_reduce(tensor: Tensor) -> Tensor:
    """Return the sum over the processes, bitwise equal on all of them; the argument is not changed."""
    if _world.size == 1:
        return tensor
    summed = tensor.clone(memory_format=torch.contiguous_format)
    if not _is_dry("all_reduce", summed):
        with _communicating():
            dist.all_reduce(summed)
    return summed


@torch.no_grad()
def all_gather(tensor: Tensor) -> Tensor:
    """Stack the tensors of all W processes, of equal shape (...), by rank: (W, ...)."""
    if _world.size == 1:
        return tensor[None]
    everyone = [torch.empty_like(tensor) for _ in range(_world.size)]
    if not _is_dry("all_gather", tensor):
        with _communicating():
            dist.all_gather(everyone, tensor.contiguous())
    return torch.stack(everyone)


@torch.no_grad()
def broadcast(tensor: Tensor, source: int) -> Tensor:
    """Overwrite this tensor with that of process `source`, which has the same shape and type."""
    if _world.size == 1:
        return tensor
    tensor = tensor.contiguous()
    with _communicating():
        dist.broadcast(tensor, source)
    return tensor


def begin_all_reduce_(tensor: Tensor) -> Callable[[], None]:
    """Start to replace a tensor by its sum over several processes; returns a function that waits for the sum.

    With gloo it uses a process group of its own, so that other collectives need not wait for it. NCCL has one group
    only, because two must not be used at the same time (see torch.distributed.new_group).
    """
    if _is_dry("all_reduce", tensor):
        return lambda: None
    with _communicating():
        work = dist.all_reduce(tensor, group=_async_group, async_op=True)

    def wait() -> None:
        with _communicating():
            work.wait()

    return wait


def all_reduce_weighted(values: dict[str, Tensor], weight: float) -> dict[str, Tensor]:
    """Sum scalars, each times the weight of its process, over the processes; a single process returns them as is."""
    if _world.size == 1:
        return values
    summed = all_reduce(torch.stack(list(values.values())) * weight)
    return dict(zip(values, summed.unbind()))


def all_reduce_max(*numbers: int) -> tuple[int, ...]:
    """Return the maximum of each number over the processes; only the hosts wait for each other."""
    if _world.size == 1:
        return numbers
    found = torch.tensor(numbers)
    with _communicating():
        dist.all_reduce(found, dist.ReduceOp.MAX)
    return tuple(found.tolist())


def broadcast_object(value: T) -> T:
    """Return the first process's value on all processes; the values of the others do not matter."""
    if _world.size == 1:
        return value
    holder = [value]
    with _communicating():
        dist.broadcast_object_list(holder, device=torch.device("cpu"))
    return holder[0]


def all_gather_object(value: T) -> list[T]:
    """Return the values of all processes, by rank, on all of them."""
    if _world.size == 1:
        return [value]
    values: list[Any] = [None] * _world.size
    with _communicating():
        dist.all_gather_object(values, value)
    return values


def round_robin(items: Sequence[T]) -> Sequence[T]:
    """Return this process's items: process r of W has the items r, r + W, r + 2W and so on."""
    return items[_world.rank :: _world.size]


def gather_round_robin(own: Sequence[T]) -> list[T]:
    """Gather what all processes made of their `round_robin` items, in the items' order, on all of them."""
    everyone = all_gather_object(own)
    return [everyone[item % _world.size][item // _world.size] for item in range(sum(map(len, everyone)))]


def check_same(name: str, value: Any) -> None:
    """Check that all processes have the same value.

    Raises:
        ScfsError: on all processes, if the value of one differs from the first process's.
    """
    values = all_gather_object(value)
    for rank, other in enumerate(values):
        if other != values[0]:
            raise ScfsError(f"{name}: {values[0]} on process 0, but {other} on process {rank}; it must be the same")


def barrier() -> None:
    """Wait until every process has called this function."""
    all_reduce_max(0)
