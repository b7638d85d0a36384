"""The cores that a process may use, and what the C library does with freed memory."""

import ctypes
import math
import os
from pathlib import Path

from scfs.runtime.world import find_world


def usable_cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Count the cores that this process may use: those it is bound to, limited by a container's quota (cgroup v2)."""
    cores = len(os.sched_getaffinity(0))
    try:
        microseconds, period = quota.read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if microseconds == "max" else min(cores, math.ceil(int(microseconds) / int(period)))


def worker_count(wanted: int | None, threads: int) -> int:
    """Return the number of loader workers: `wanted`, or half of the cores that `threads` leaves, at most 8."""
    cores = usable_cores() // find_world().core_sharers
    return min(8, max(0, cores - threads) // 2) if wanted is None else wanted


# The parameters' numbers in glibc's malloc.h.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
NEVER = -1
LARGEST_KEPT = 32 * 2**20
"""Size in bytes of the largest block that glibc can be told to keep."""


def keep_freed_memory() -> None:
    """Tell the C library to keep freed blocks instead of returning them to the kernel, which has to clear new ones.

    That took a fifth of the CPU time of an fp32 training step. The setting lasts until the process ends; without glibc
    the function does nothing.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(MMAP_THRESHOLD, LARGEST_KEPT)
    mallopt(TRIM_THRESHOLD, NEVER)
