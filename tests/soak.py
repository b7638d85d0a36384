"""`make soak`: how often each case is tried, and the table of those that passed, from which it goes on."""

import json
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

TRIES = int(os.environ.get("SCFS_SOAK", "0"))
"""Seeds of each kind; 0: not a soak."""
TABLE = Path(os.environ.get("SCFS_SOAK_TABLE", os.devnull))
CODE = subprocess.run(
    ["git", "describe", "--always", "--dirty"], cwd=Path(__file__).parent, capture_output=True, text=True
).stdout.strip()


def cases(kinds: Iterable[str], in_ci: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Kinds with seeds: those of CI, or in a soak all but what the table has of this code."""
    lines = map(json.loads, TABLE.read_text().splitlines()) if TABLE.exists() else []
    passed = {(line["fault"], line["seed"]) for line in lines if line["code"] == CODE}
    soak = [(kind, seed) for seed in range(TRIES) for kind in kinds if (kind, seed) not in passed]
    return soak if TRIES else in_ci


def note(kind: str, seed: int, **found: Any) -> None:
    """Append a case that passed to the table."""
    with TABLE.open("a") as file:
        file.write(json.dumps({"fault": kind, "seed": seed, **found, "code": CODE}) + "\n")
