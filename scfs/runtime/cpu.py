"""Cores that a process may use."""

import ctypes
import math
import os
from pathlib import Path

from scfs.runtime.world import find_world


def usable_cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Cores that this process may use: those it is bound to, and no more than a container's quota (cgroup v2) pays."""
    cores = len(os.sched_getaffinity(0))
    try:
        microseconds, period = quota.read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if microseconds == "max" else min(cores, math.ceil(int(microseconds) / int(period)))


def worker_count(wanted: int | None, threads: int) -> int:
    """Processes that read images: half of the cores that torch's threads leave, since other jobs may run beside."""
    cores = usable_cores() // find_world().sharing
    return min(8, max(0, cores - threads) // 2) if wanted is None else wanted


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
