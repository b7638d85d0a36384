"""A pool of shared-memory buffers for batches in flight, used again and again, as allocating new ones takes longer."""

import itertools
import math
import weakref
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from scfs.errors import refusing
from scfs.views.workers import MORE_MEMORY

_numbers = itertools.count()
_pools: "weakref.WeakValueDictionary[int, BufferPool]" = weakref.WeakValueDictionary()


class BufferPool:
    """Buffers that loader workers fill and the training process reads.

    Make it before the workers are forked, so that they inherit its memory. A buffer is free again when no tensor or
    array uses its memory any more, so whoever keeps a batch keeps its pixels.

    Args:
        shapes: shapes of the uint8 tensors of a buffer.
        buffers: number of buffers; when none is free, batches are sent without one.
    """

    def __init__(self, shapes: Sequence[tuple[int, ...]], buffers: int) -> None:
        self.buffers = [tuple(shared_tensor(shape) for shape in shapes) for _ in range(buffers)]
        self.number = next(_numbers)
        self._in_flight: set[int] = set()
        self._idle_counts = [_use_counts(buffer) for buffer in self.buffers]
        _pools[self.number] = self

    def assign(self, steps: Iterable[int]) -> Iterator[tuple[int, int | None]]:
        """Yield each step with the number of a free buffer, acquired when the step is asked for; None: none is free."""
        for step in steps:
            yield step, self._acquire()

    def _acquire(self) -> int | None:
        for number, buffer in enumerate(self.buffers):
            if number not in self._in_flight and _use_counts(buffer) == self._idle_counts[number]:
                self._in_flight.add(number)
                return number
        return None

    def receive(self, number: int) -> list[Tensor]:
        """Return the tensors of a buffer that a worker has filled; it is free again when they are gone."""
        tensors = [tensor.view(tensor.shape) for tensor in self.buffers[number]]
        self._in_flight.discard(number)
        return tensors


def receive(pool: int, number: int) -> list[Tensor]:
    """Call `BufferPool.receive` of the pool with this number, in the process that made it."""
    return _pools[pool].receive(number)


def shared_tensor(shape: tuple[int, ...]) -> Tensor:
    """Allocate a uint8 tensor in memory that forked processes share.

    Raises:
        ScfsError: /dev/shm is too small.
    """
    with refusing("no shared memory", RuntimeError, advice=f": {MORE_MEMORY}"):
        storage = torch.UntypedStorage._new_shared(math.prod(shape))
    return torch.empty(0, dtype=torch.uint8).set_(storage).view(shape)


def _use_counts(buffer: tuple[Tensor, ...]) -> list[int]:
    """Count the tensors that use the memory of each tensor of a buffer."""
    return [torch._C._storage_Use_Count(tensor.untyped_storage()._cdata) for tensor in buffer]
