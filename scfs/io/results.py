"""Results on disk: `<name>.json` holds what is true of the result, `<name>.run.json` what is true of one execution.

The first is byte-identical when the stage is repeated; nothing depends on the second.
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from scfs.errors import ScfsError, refusing
from scfs.io.atomic import write_json

ROOT = Path(__file__).resolve().parents[2]
LOCK = Path("envs", "runtime.txt")
"""Lock file that the environment was made from, relative to the root."""
REVISION = Path("REVISION")
"""File in a copy of the package (scfs.launch.code_snapshot) with the checkout's revision, relative to its root."""
PROCESS_START = time.time()


def sha256_of(path: Path) -> str:
    """Hash a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_result(path: Path, result: dict[str, Any], run_metadata: dict[str, Any] | None = None) -> None:
    """Write `path` (ends in .json) and its `.run.json`; `run_metadata` adds to what is recorded of this execution."""
    write_json(path.with_suffix(".run.json"), {**_run_metadata(), **(run_metadata or {})})
    write_json(path, result)


def read_result(path: Path, stage: str) -> dict[str, Any]:
    """Read what `write_result` wrote; `stage` is what messages call the stage that does.

    Raises:
        ScfsError: the file is missing, or is no JSON object.
    """
    if not path.exists():
        raise ScfsError(f"{path}: missing: {stage} writes it")
    with refusing(f"{path}: not a readable JSON file", OSError, ValueError):
        result = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(result, dict):
        raise ScfsError(f"{path}: not a result of {stage}: a JSON object is expected")
    return result


def _run_metadata() -> dict[str, Any]:
    lock = Path(os.environ.get("SCFS_LOCK", ROOT / LOCK))  # an image names its own
    return {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.time() - PROCESS_START, 1),
        "command": sys.argv[1:],
        "host": platform.node(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "scfs": version("scfs"),
        "torch": version("torch"),
        "git": git_revision(),
        "lock_sha256": sha256_of(lock) if lock.is_file() else None,
        "image_digest": os.environ.get("SCFS_IMAGE_DIGEST"),
    }


def nested_difference(key: str, found: Any, wanted: Any) -> tuple[str, Any, Any]:
    """Find where two values differ, however deep in dictionaries: the first dotted key in `key`, and both values."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for inner in sorted(found.keys() | wanted.keys()):
            if found.get(inner) != wanted.get(inner):
                return nested_difference(f"{key}.{inner}", found.get(inner), wanted.get(inner))
    return key, found, wanted


def git_revision() -> str | None:
    """Return the checkout's revision, marked when it has uncommitted changes; None outside a checkout."""
    if (ROOT / REVISION).is_file():
        return (ROOT / REVISION).read_text().strip() or None
    try:
        command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
