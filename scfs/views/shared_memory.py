"""Shared memory for batches in flight, used again and again: fresh memory for each costs more than the copy saved."""

import itertools
import math
import weakref
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

_numbers = itertools.count()
_rings: "weakref.WeakValueDictionary[int, BufferPool]" = weakref.WeakValueDictionary()


class BufferPool:
    """Places for batches between the processes that make them and the one that uses them.

    To be made before those processes are forked: they inherit its memory. A place is free again when no tensor or array
    shows its memory any more, so that whoever keeps a batch keeps its pixels.

    Args:
        shapes: of the uint8 tensors that a place consists of.
        places: how many there are; when all are taken, batches go without.
    """

    def __init__(self, shapes: Sequence[tuple[int, ...]], places: int) -> None:
        self.places = [tuple(shared(shape) for shape in shapes) for _ in range(places)]
        self.number = next(_numbers)
        self._on_their_way: set[int] = set()
        self._idle = [_uses(place) for place in self.places]
        _rings[self.number] = self

    def numbered(self, steps: Iterable[int]) -> Iterator[tuple[int, int | None]]:
        """Each step with a place for its batch, chosen when it is asked for; None: none is free."""
        for step in steps:
            yield step, self._take()

    def _take(self) -> int | None:
        for number, place in enumerate(self.places):
            if number not in self._on_their_way and _uses(place) == self._idle[number]:
                self._on_their_way.add(number)
                return number
        return None

    def arrived(self, place: int) -> list[Tensor]:
        """The tensors of a place that has been filled; they hold it from here on."""
        tensors = [tensor.view(tensor.shape) for tensor in self.places[place]]
        self._on_their_way.discard(place)
        return tensors


def arrived(ring: int, place: int) -> list[Tensor]:
    """`BufferPool.arrived` of the ring with this number, in the process that made it."""
    return _rings[ring].arrived(place)


def shared(shape: tuple[int, ...]) -> Tensor:
    """A uint8 tensor in memory that forked processes share."""
    storage = torch.UntypedStorage._new_shared(math.prod(shape))
    return torch.empty(0, dtype=torch.uint8).set_(storage).view(shape)


def _uses(place: tuple[Tensor, ...]) -> list[int]:
    """How many tensors show each one's memory."""
    return [torch._C._storage_Use_Count(tensor.untyped_storage()._cdata) for tensor in place]
