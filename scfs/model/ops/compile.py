"""Backbones whose operations torch.compile fuses: BatchNorm with ReLU, residual sums, conversions. Meant for GPUs.

Whole, or it is an error: a part on which torch.compile gives up would be left as slow as before without a word. That is
why several processes have BatchNorm from `scfs.model.ops.batch_norm` then, whose messages are part of what is compiled;
torch's own stops compilation at each norm.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import nn

from scfs.errors import ScfsError
from scfs.runtime.collectives import ProcessLostError


def compile_backbone(backbone: nn.Module) -> None:
    """Have a backbone compiled, in place, when it is first called with maps of a size: the student's is for two sizes.

    Parameters keep their names. What it computes is rounded otherwise.
    """
    backbone.compile(dynamic=False, fullgraph=True)


@contextmanager
def compile_errors() -> Iterator[None]:
    """While a compile backbone is called.

    Raises:
        ProcessLostError: another process has ended.
        ScfsError: torch.compile fails, as without a compiler.
    """
    try:
        yield
    except dist.DistBackendError as error:  # of NCCL's, in what is compiled
        raise ProcessLostError(f"another process of this training has ended: {error}") from error
    except torch._dynamo.exc.TorchDynamoException as error:
        cause = getattr(error, "inner_exception", error)
        what = ": ".join([type(cause).__name__, *str(cause).splitlines()[:1]])
        raise ScfsError(f"--compile: torch.compile fails: {what}; allowed: without --compile") from error
