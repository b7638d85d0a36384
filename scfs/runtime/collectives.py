"""Several processes that train one model: how they meet and part, and every collective.

Each collective but `begin_total_` is an identity in a single process, which needs no process group. Tensors of a CPU go
by gloo, those of a GPU by NCCL; what the hosts agree on goes by gloo in both cases, so that no GPU is waited for.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from scfs.errors import ProcessLostError, ScfsError
from scfs.io import progress
from scfs.runtime.rendezvous import meet
from scfs.runtime.world import World, find_world

T = TypeVar("T")
BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}

_world = World()
_aside: dist.ProcessGroup | None = None


def world() -> World:
    """Which process this is; alone outside `joined`."""
    return _world


def is_first() -> bool:
    """Whether this process is the one that writes files and log lines."""
    return _world.rank == 0


def own_device(device: torch.device) -> torch.device:
    """With several processes each takes the GPU of its own number; a CPU is shared.

    Raises:
        ScfsError: there are fewer GPUs than processes on this machine.
    """
    found = find_world()
    if device.type != "cuda" or found.size == 1:
        return device
    if torch.cuda.device_count() == 1 and "SLURM_LOCALID" in os.environ:  # --gpus-per-task: it sees its own alone
        return torch.device("cuda", 0)
    if found.local_rank >= torch.cuda.device_count():
        raise ScfsError(
            f"process {found.local_rank} of this machine has no GPU: start at most {torch.cuda.device_count()} here"
        )
    torch.cuda.set_device(found.local_rank)
    return torch.device("cuda", found.local_rank)


@contextmanager
def joined(device: torch.device) -> Iterator[World]:
    """Meet the other processes that a launcher started, if any; the first one alone logs while they are together.

    An error of one process ends all: it closes its connections, on which the others wait. The one that failed first
    says why, the others end silently with status 1.
    """
    global _world, _aside
    found = find_world()
    if found.size == 1:
        yield found
        return
    store = meet(found)
    failures = dist.PrefixStore("scfs", store)
    dist.init_process_group(BACKENDS[device.type], store=store, rank=found.rank, world_size=found.size)
    if device.type == "cpu":
        made = dist.new_group()
        assert not isinstance(made, int)  # which would stand for processes that are not in it
        _aside = made
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
        _world, _aside = World(), None
        if ended_well or device.type == "cpu":  # NCCL would wait for work that a lost process never does
            dist.destroy_process_group()


def _is_first_failure(failures: dist.Store) -> bool:
    try:
        return failures.add("failures", 1) == 1
    except RuntimeError:  # the process that kept the store is gone without a word
        return True


@contextmanager
def _communicating() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise ProcessLostError(f"another process of this training has ended: {error}") from error


@torch.no_grad()
def total(tensor: Tensor) -> Tensor:
    """Sum over the processes, the same bits on all; the tensor itself is left alone."""
    if _world.size == 1:
        return tensor
    summed = tensor.clone(memory_format=torch.contiguous_format)
    with _communicating():
        dist.all_reduce(summed)
    return summed


@torch.no_grad()
def gathered(tensor: Tensor) -> Tensor:
    """The tensors of all processes, of equal shape (...), by rank: (W, ...)."""
    if _world.size == 1:
        return tensor[None]
    everyone = [torch.empty_like(tensor) for _ in range(_world.size)]
    with _communicating():
        dist.all_gather(everyone, tensor.contiguous())
    return torch.stack(everyone)


@torch.no_grad()
def broadcast(tensor: Tensor, source: int) -> Tensor:
    """What process `source` has, in the memory of this tensor: of equal shape and type on all of them."""
    if _world.size == 1:
        return tensor
    tensor = tensor.contiguous()
    with _communicating():
        dist.broadcast(tensor, source)
    return tensor


def begin_total_(tensor: Tensor) -> Callable[[], None]:
    """Begin to replace a tensor by its sum over several processes; call what is returned before it is used.

    By gloo it has connections of its own, so that others need not wait for it. NCCL's groups must not be used side by
    side (torch.distributed.new_group), so there is one.
    """
    with _communicating():
        work = dist.all_reduce(tensor, group=_aside, async_op=True)

    def wait() -> None:
        with _communicating():
            work.wait()

    return wait


def weighted_totals(values: dict[str, Tensor], weight: float) -> dict[str, Tensor]:
    """Scalars, times this process's weight, summed over the processes; the values themselves if it is alone."""
    if _world.size == 1:
        return values
    summed = total(torch.stack(list(values.values())) * weight)
    return dict(zip(values, summed.unbind()))


def largest(*numbers: int) -> tuple[int, ...]:
    """The largest of each number over the processes; only the hosts wait for each other."""
    if _world.size == 1:
        return numbers
    found = torch.tensor(numbers)
    with _communicating():
        dist.all_reduce(found, dist.ReduceOp.MAX)
    return tuple(found.tolist())


def from_first(value: T) -> T:
    """What the first process has; the others' values do not matter."""
    if _world.size == 1:
        return value
    holder = [value]
    with _communicating():
        dist.broadcast_object_list(holder, device=torch.device("cpu"))
    return holder[0]


def of_all(value: T) -> list[T]:
    """What each process has, by rank; on all of them."""
    if _world.size == 1:
        return [value]
    values: list[Any] = [None] * _world.size
    with _communicating():
        dist.all_gather_object(values, value)
    return values


def in_turn(items: Sequence[T]) -> Sequence[T]:
    """Those of some items that fall to this process when the processes take them in turn."""
    return items[_world.rank :: _world.size]


def merged(own: Sequence[T]) -> list[T]:
    """What all processes have made of the items that they took in turn, in the order of the items; on all of them."""
    everyone = of_all(own)
    return [everyone[item % _world.size][item // _world.size] for item in range(sum(map(len, everyone)))]


def check_same(name: str, value: Any) -> None:
    """Hold all processes to one value.

    Raises:
        ScfsError: on all of them, if one differs from the first.
    """
    values = of_all(value)
    for rank, other in enumerate(values):
        if other != values[0]:
            raise ScfsError(f"{name}: {values[0]} on process 0, but {other} on process {rank}; it must be the same")


def wait_for_all() -> None:
    """Go on when every process is here."""
    largest(0)
