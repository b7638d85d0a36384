"""Activation checkpointing: maps inside a block are not kept for the backward pass, but computed again there.

Results are bitwise equal: the second pass computes what the first one did, and leaves BatchNorm's running statistics
alone.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def checkpointed(block: Callable[..., Tensor], x: Tensor, norms: nn.Module) -> Tensor:
    """Compute block(x), and keep only x for the backward pass.

    Args:
        block: function that draws no random numbers.
        x: its input, which must not be changed afterwards.
        norms: a module that contains every BatchNorm of the block.
    """

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _statistics_left_alone(norms)  # of the first pass, and of the second one

    result: Tensor = checkpoint(block, x, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)
    return result


@contextmanager
def _statistics_left_alone(norms: nn.Module) -> Iterator[None]:
    """Keep running statistics by a momentum of 0; without the update other tensors would be saved for backward."""
    found = [module for module in norms.modules() if isinstance(module, _BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked.clone()) for norm in found]  # type: ignore[union-attr]
    for norm in found:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(found, before, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(batches)  # type: ignore[union-attr]
