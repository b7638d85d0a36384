"""The package as it was when a job was submitted: its processes import that, however the checkout changes meanwhile.

Without it a job that is queued again would go on with whatever the checkout holds by then.
"""

import hashlib
import shutil
import tempfile
from pathlib import Path

from scfs.io.atomic import write_text
from scfs.io.results import LOCK, REVISION, ROOT, git_revision

PACKAGE = ROOT / "scfs"


def code_version() -> str:
    """Sixteen hexadecimal digits of the package's content."""
    content = hashlib.sha256()
    for path in _files():
        content.update(f"{path.relative_to(PACKAGE)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return content.hexdigest()[:16]


def _files() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix != ".pyc")


def keep_code(folder: Path) -> Path:
    """Copy the package into `folder`, under a name that its content gives; nothing is done if it is there.

    Args:
        folder: where copies are kept.

    Returns:
        What is to stand first on the path of Python's modules.
    """
    kept = folder / code_version()
    if kept.is_dir():
        return kept
    folder.mkdir(parents=True, exist_ok=True)
    growing = Path(tempfile.mkdtemp(dir=folder, prefix=".copy-"))
    try:
        for path in _files():
            copy = growing / "scfs" / path.relative_to(PACKAGE)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        if (ROOT / LOCK).is_file():
            (growing / LOCK).parent.mkdir(parents=True)
            shutil.copyfile(ROOT / LOCK, growing / LOCK)
        write_text(growing / REVISION, git_revision() or "")
        growing.chmod(0o755)
        growing.rename(kept)
    finally:
        shutil.rmtree(growing, ignore_errors=True)
    return kept
