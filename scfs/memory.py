"""Memory of tensors on a CPU: what one gives back, the next one takes, without a way through the kernel."""

import ctypes

# Of glibc's malloc.h.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
NEVER = -1
LARGEST_KEPT = 32 * 2**20
"""Bytes of the largest block that glibc can be told to keep."""


def keep_freed_memory() -> None:
    """Have the C library keep freed blocks instead of returning them to the kernel, which maps and clears new ones.

    A fifth of an fp32 training step's CPU time went there (docs/performance.md). It lasts until the process ends, and
    does nothing where the C library is not glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(MMAP_THRESHOLD, LARGEST_KEPT)
    mallopt(TRIM_THRESHOLD, NEVER)
