"""Free space on a disk, before something is written that may not fit."""

import shutil
from pathlib import Path

from scfs.errors import ScfsError


def require_space(folder: Path, size: int, hint: str = "") -> None:
    """Refuse to begin if fewer than `size` bytes are free.

    Args:
        folder: where they are to be written; it exists.
        size: number of bytes.
        hint: end of the message.

    Raises:
        ScfsError: less is free.
    """
    free = shutil.disk_usage(folder).free
    if size > free:
        raise ScfsError(f"{folder}: {size / 2**30:.2f} GiB have to be written, {free / 2**30:.2f} GiB are free{hint}")
