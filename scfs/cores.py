"""Cores that a process may use."""

import math
import os
from pathlib import Path

from scfs.world import find_world


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
