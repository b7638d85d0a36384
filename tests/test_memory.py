"""Freed memory is kept: a second round of tensors meets pages that are there already."""

import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from scfs.memory import keep_freed_memory
{first}
def work():
    for _ in range(6):
        kept = [torch.zeros(4 * 2**20) for _ in range(4)]  # of 16 MiB
work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.parametrize(("first", "most"), [("keep_freed_memory()", 5000), ("", None)])
def test_pages_are_used_again(first: str, most: int | None) -> None:
    said = subprocess.run(
        [sys.executable, "-c", FAULTS.format(first=first)], capture_output=True, text=True, check=True
    )
    faults = int(said.stdout)
    if most is None:  # how it is otherwise
        assert faults > 15_000
    else:
        assert faults < most
