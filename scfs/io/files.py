"""Files as they lie in a folder: links may lead in circles, and what looks like a file may be a pipe or a device."""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

MOST_BYTES = 1 << 30
"""Bytes of a file that is read as a whole, such as an image. unsourced: the largest images take half of it."""


def walk(folder: Path, onerror: Callable[[OSError], None] | None = None) -> Iterator[tuple[str, list[str], list[str]]]:
    """Walk a folder as `os.walk` does; links are followed, but never into a folder that they lie in."""
    chains: dict[Path, frozenset[Path]] = {folder: frozenset()}
    for place, folders, files in os.walk(folder, onerror=onerror, followlinks=True):
        above = chains.pop(Path(place)) | {Path(place).resolve()}
        folders[:] = [name for name in folders if Path(place, name).resolve() not in above]
        yield place, folders, files
        chains.update((Path(place, name), above) for name in folders)


def read_regular(path: Path) -> bytes:
    """Read a whole file: of a pipe one would wait for ever, of a device until memory is full.

    Raises:
        OSError: it cannot be read, is no regular file, or is larger than `MOST_BYTES`.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(0, "not a regular file", f"{path}")
    if status.st_size > MOST_BYTES:
        raise OSError(0, f"{status.st_size:,} bytes, at most {MOST_BYTES:,} are read", f"{path}")
    return path.read_bytes()
