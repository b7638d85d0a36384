"""Errors of compiled backbones: torch.compile fuses BatchNorm, ReLU, residual sums and conversions; for GPUs.

A backbone is compiled as a whole, or it is an error: a part that torch.compile cannot compile would stay slow without
notice. Several processes therefore use BatchNorm of `scfs.model.ops.batch_norm`, whose collectives can be compiled;
torch's own interrupts compilation at each norm.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from scfs.errors import ScfsError
from scfs.runtime.collectives import ProcessLostError


@contextmanager
def compile_errors() -> Iterator[None]:
    """Turn errors of compiled backbones that are called in this context into one line.

    Raises:
        ProcessLostError: another process has ended.
        ScfsError: torch.compile fails, as without a compiler.
    """
    try:
        yield
    except dist.DistBackendError as error:  # raised by NCCL inside compiled code
        raise ProcessLostError(f"another process of this training has ended: {error}") from error
    except torch._dynamo.exc.TorchDynamoException as error:
        cause = getattr(error, "inner_exception", error)
        what = ": ".join([type(cause).__name__, *str(cause).splitlines()[:1]])
        raise ScfsError(f"--compile: torch.compile fails: {what}; allowed: without --compile") from error
