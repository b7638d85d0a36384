"""Archives to files: each file appears whole, and what an interrupted extraction wrote is kept."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from scfs.data.archives.members import Member, is_safe
from scfs.errors import ScfsError, writing
from scfs.io.atomic import move_into_place
from scfs.io.disk_space import require_space
from scfs.io.locks import file_lock
from scfs.io.progress import track

BLOCK = 4096
"""Unit in bytes of the space that a file takes."""
COMPARED = 1 << 26
"""Largest file, in bytes, that is compared; a larger one is written again, as it would be held in memory twice."""

Files = Callable[[], Iterable[tuple[str, Member]]]
"""Function that begins to go through the files to extract: path below the folder, and the member with its content."""


def extract(files: Files, folder: Path) -> int:
    """Write members of archives to files below `folder`; other files there are left alone.

    The files are gone through twice: first to check all names and the free space, then to write. A file that is there
    with the same content stays; the archive, not a record of what was done, says what that is.

    Returns:
        Number of files written.

    Raises:
        ScfsError: a bad archive or path (before anything is written), too little free space, a file that cannot be
            written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with file_lock(folder / ".extracting.lock"):
            number = _check(files, folder)
            part = folder / ".extracting"
            written = sum(
                _place(member, folder / path, part)
                for path, member in track(files(), f"extracting to {folder}", "files", number)
            )
            part.unlink(missing_ok=True)
            os.sync()  # a power cut from now on takes nothing
    return written


def _check(files: Files, folder: Path) -> int:
    """Check all paths and the free space, and return the number of files."""
    seen: set[str] = set()
    needed = 0
    for path, member in track(files(), f"checking what goes to {folder}", "files"):
        if not is_safe(path) or path in seen:
            problem = "comes twice" if path in seen else "not a path below it"
            raise ScfsError(f"{folder}: {path!r} ({member.archive}: {member.name!r}): {problem}")
        seen.add(path)
        if not has_size(folder / path, member.size):
            needed += -(-member.size // BLOCK) * BLOCK
    require_space(folder, needed)
    return len(seen)


def _place(member: Member, path: Path, part: Path) -> bool:
    """Write one file by way of `part`, unless it is there already; return True if it was written."""
    pieces: Iterable[bytes] = member.pieces()
    if member.size <= COMPARED and has_size(path, member.size):
        content = member.read()
        if path.read_bytes() == content:
            return False
        pieces = [content]
    with part.open("wb") as file:
        file.writelines(pieces)
    move_into_place(part, path, durable=False)
    return True


def has_size(path: Path, size: int) -> bool:
    """True if a file is there and has so many bytes."""
    return path.is_file() and path.stat().st_size == size
