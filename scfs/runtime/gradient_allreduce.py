"""Bucketed all-reduce of gradients, which overlaps with the backward pass: a bucket is summed when it is complete.

DistributedDataParallel does the same (Li et al., VLDB 2020), but it averages over ranks, which is wrong where they have
unequal numbers of images, it adds a prefix to every name, and it orders its buckets by the first step that it sees, so
that a resumed run would sum in another order.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from scfs.runtime import collectives

BUCKET = 25 * 2**20
"""Largest size of a bucket in bytes (DDP's default); a larger parameter has a bucket of its own."""


class GradientAllReduce:
    """Replace each gradient by its sum over the processes, bitwise equal on all of them; a single process does nothing.

    In each step the same parameters must get a gradient on all processes.
    """

    def __init__(self, parameters: Iterable[Tensor], bucket: int = BUCKET) -> None:
        """Assign the parameters that require gradients to buckets.

        Args:
            parameters: in the model's order; the backward pass computes the gradients of the last ones first.
            bucket: size of a bucket in bytes.
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
            parameter.register_post_accumulate_grad_hook(self._on_gradient)
        self._under_way = False
        self._missing: list[set[Tensor]] = []
        self._begun: list[Callable[[], None]] = []

    @contextmanager
    def during_backward(self) -> Iterator[None]:
        """Sum the gradients of the backward pass inside this context; use it for the last one of a step.

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
            while len(self._begun) < len(self._buckets):  # some of their parameters got no gradient in this pass
                self._begin_next()
            while self._begun:
                self._begun.pop(0)()
        finally:
            self._under_way, self._begun = False, []

    def _on_gradient(self, parameter: Tensor) -> None:
        """Note that a gradient is complete; begin sums in the order of the buckets, the same on all processes."""
        if self._under_way:
            self._missing[self._bucket_of[parameter]].discard(parameter)
            while len(self._begun) < len(self._buckets) and not self._missing[len(self._begun)]:
                self._begin_next()

    def _begin_next(self) -> None:
        bucket = self._buckets[len(self._begun)]
        gradients = [parameter.grad for parameter in bucket if parameter.grad is not None]
        self._begun.append(_begin_sum(gradients) if gradients else lambda: None)


@torch.no_grad()
def _begin_sum(gradients: list[Tensor]) -> Callable[[], None]:
    """Start the all-reduce of a bucket; returns a function that waits for the sum and copies it into the gradients."""
    whole = torch.cat([gradient.reshape(-1) for gradient in gradients])
    wait = collectives.begin_all_reduce_(whole)

    @torch.no_grad()
    def finish() -> None:
        wait()
        pieces = whole.split([gradient.numel() for gradient in gradients])
        torch._foreach_copy_(gradients, [piece.view_as(own) for piece, own in zip(pieces, gradients)])

    return finish
