"""The package as it was when a job was submitted: its processes import that, however the checkout changes meanwhile.

Without it a job that is queued again would go on with whatever the checkout holds by then.
"""

import hashlib
import shutil
from pathlib import Path

from scfs.io.atomic import replacing_folder, write_text
from scfs.io.locks import folder_lock
from scfs.io.results import LOCK, REVISION, ROOT, git_revision

PACKAGE = ROOT / "scfs"


def code_version() -> str:
    """Return sixteen hexadecimal digits of a hash of the package's files."""
    content = hashlib.sha256()
    for path in _files():
        content.update(f"{path.relative_to(PACKAGE)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return content.hexdigest()[:16]


def _files() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix != ".pyc")


def snapshot_code(folder: Path) -> Path:
    """Copy the package into `folder`, under a name that its content gives; nothing is done if it is there.

    Args:
        folder: folder of the copies.

    Returns:
        Folder of this copy, which is to be the first on PYTHONPATH.
    """
    kept = folder / code_version()
    with folder_lock(kept):
        if not kept.is_dir():
            with replacing_folder(kept, durable=False) as growing:
                for path in [*_files(), *filter(Path.is_file, [ROOT / LOCK])]:
                    copy = growing / path.relative_to(ROOT)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, copy)
                write_text(growing / REVISION, git_revision() or "")
    return kept
