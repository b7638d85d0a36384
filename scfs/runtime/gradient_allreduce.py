"""Gradients summed over the processes, in buckets, each as soon as it is whole: beside the rest of the backward pass.

DistributedDataParallel does it so (Li et al., VLDB 2020), but it averages over ranks, which is wrong where they have
unequal shares, adds a name to every tensor, and orders its buckets by the first step that it sees, so that a resumed
run would sum in another order.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from scfs.runtime import collectives

BUCKET = 25 * 2**20
"""Bytes of a bucket at most, but for a larger parameter; DDP's default."""


class GradientSums:
    """Replaces each gradient by its sum over the processes, the same bits on all. Nothing to do for one that is alone.

    Which parameters get a gradient in a step must not differ between the processes.
    """

    def __init__(self, parameters: Iterable[Tensor], bucket: int = BUCKET) -> None:
        """Take a model's parameters; those without gradients are left out.

        Args:
            parameters: in the model's order: the last ones' gradients are there first.
            bucket: bytes.
        """
        self._buckets: list[list[Tensor]] = []
        if collectives.world().size == 1:
            return
        self._bucket_of: dict[Tensor, int] = {}
        room = 0
        for parameter in reversed([parameter for parameter in parameters if parameter.requires_grad]):
            size = parameter.numel() * parameter.element_size()
            if size > room:
                self._buckets.append([])
                room = bucket
            room -= size
            self._buckets[-1].append(parameter)
            self._bucket_of[parameter] = len(self._buckets) - 1
            parameter.register_post_accumulate_grad_hook(self._arrived)
        self._under_way = False
        self._missing: list[set[Tensor]] = []
        self._begun: list[_Sum | None] = []  # None: no gradients

    @contextmanager
    def during_backward(self) -> Iterator[None]:
        """Around the last backward pass of a step; afterwards gradients are sums.

        Raises:
            ProcessLostError: another process has ended.
        """
        if not self._buckets:
            yield
            return
        self._missing, self._begun, self._under_way = [set(bucket) for bucket in self._buckets], [], True
        try:
            yield
            self._under_way = False
            while len(self._begun) < len(self._buckets):  # of these some had no part in the pass
                self._begin_next()
            while self._begun:
                if begun := self._begun.pop(0):
                    begun.take()
        finally:
            self._under_way, self._begun = False, []

    def _arrived(self, parameter: Tensor) -> None:
        """A gradient is whole. Sums begin in the order of the buckets, which is the same on all processes."""
        if self._under_way:
            self._missing[self._bucket_of[parameter]].discard(parameter)
            while len(self._begun) < len(self._buckets) and not self._missing[len(self._begun)]:
                self._begin_next()

    def _begin_next(self) -> None:
        bucket = self._buckets[len(self._begun)]
        gradients = [parameter.grad for parameter in bucket if parameter.grad is not None]
        self._begun.append(_Sum(gradients) if gradients else None)


class _Sum:
    """Of the gradients of a bucket, on its way."""

    @torch.no_grad()
    def __init__(self, gradients: list[Tensor]) -> None:
        self.gradients = gradients
        self.whole = torch.cat([gradient.reshape(-1) for gradient in gradients])
        self.wait = collectives.begin_total_(self.whole)

    @torch.no_grad()
    def take(self) -> None:
        """Wait for it, and let the gradients be it."""
        self.wait()
        pieces = self.whole.split([gradient.numel() for gradient in self.gradients])
        torch._foreach_copy_(self.gradients, [piece.view_as(own) for piece, own in zip(pieces, self.gradients)])
