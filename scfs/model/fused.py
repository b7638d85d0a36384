"""Backbones whose operations torch.compile fuses: BatchNorm with ReLU, residual sums, conversions. Meant for GPUs."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from scfs.errors import ScfsError


def fuse(backbone: nn.Module) -> None:
    """Have a backbone compiled, in place, when it is first called with maps of a size: the student's is for two sizes.

    Parameters keep their names. What it computes is rounded otherwise.
    """
    backbone.compile(dynamic=False)


@contextmanager
def explained() -> Iterator[None]:
    """While a fused backbone is called.

    Raises:
        ScfsError: torch.compile fails, as without a compiler.
    """
    try:
        yield
    except torch._dynamo.exc.TorchDynamoException as error:
        cause = getattr(error, "inner_exception", error)
        what = ": ".join([type(cause).__name__, *str(cause).splitlines()[:1]])
        raise ScfsError(f"--compile: torch.compile fails: {what}; allowed: without --compile") from error
