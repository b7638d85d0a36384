"""Freed memory is kept: after some rounds tensors meet pages that are there already."""

import subprocess
import sys

WORK = """
import resource, torch
from scfs.runtime.cpu import keep_freed_memory
keep_freed_memory()
def work(rounds):
    for _ in range(rounds):
        kept = [torch.zeros(6 * 2**20) for _ in range(4)]  # of 24 MiB: 6144 pages each
        del kept
work(24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work(24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_pages_are_used_again() -> None:
    said = subprocess.run([sys.executable, "-c", WORK], capture_output=True, text=True, check=True)
    # A quarter, not none: a small object in the way may cost a new block now and then.
    assert int(said.stdout) < 24 * 6144
