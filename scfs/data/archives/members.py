"""Official archives, read member by member: nothing unsafe is let through, and little is held in memory.

Archives come from elsewhere, so nothing that they say is trusted: names, sizes, kinds of members, where they end.
"""

import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from scfs.data.archives.formats import PIECE, ArchiveEntry, BrokenError, ByteRange, entries, tar_entries
from scfs.errors import ScfsError, is_utf8

LONGEST_PART = 255
"""Most bytes of one file's or folder's name: what Linux's file systems take."""
LONGEST_NAME = 1024
MOST_MEMBERS = 10_000_000
"""ImageNet has 1.3 million; names stay in memory, to find those that come twice."""


@dataclass(frozen=True)
class Member:
    """A regular file inside an archive."""

    name: str
    """Relative path with forward slashes."""
    size: int
    """Number of bytes."""
    archive: Path
    """The file that it is in."""
    offset: int | None
    """Offset of its bytes in the archive's file, where they lie there uncompressed; else None."""
    content: Callable[[], ByteRange] = field(repr=False, compare=False)
    """Opens its bytes."""

    def pieces(self) -> Iterator[bytes]:
        """Yield its bytes in pieces of at most 1 MiB: once, while the iteration stands at it.

        Raises:
            ScfsError: they are broken, or end too early.
        """
        with _one_line(self.archive, self.name):
            content = self.content()
            for start in range(0, self.size, PIECE):
                yield content.read(start, min(PIECE, self.size - start))

    def read(self) -> bytes:
        """Return all of its bytes; see `pieces`."""
        return b"".join(self.pieces())


def members(archive: Path, *, nested: bool = False, limit: int | None = None) -> Iterator[Member]:
    """Yield the regular files of an archive in its order, as it is read; folders are passed over.

    Args:
        archive: a .tar, .tar.gz, .tgz or .zip, or a .gz of one file.
        nested: look also into tars that are members; their members are named "<inner tar without .tar>/<name>".
        limit: bytes that all members together may have.

    Raises:
        ScfsError: the archive cannot be read, is not what its name says, is broken or ends too early; a name is
            absolute, leaves the folder, comes twice or cannot be a file's; a member is a link, a device, sparse or
            encrypted; there are more bytes than `limit`. One line with archive and member.
    """
    with _one_line(archive), archive.open("rb") as file:
        total = 0
        for number, (name, entry) in enumerate(_files(archive, "", entries(archive, file), nested), start=1):
            total += entry.size
            with _one_line(archive, name):
                if limit is not None and total > limit:
                    raise BrokenError(f"more than {limit} bytes in all up to here")
                if number > MOST_MEMBERS:
                    raise BrokenError(f"more than {MOST_MEMBERS} files up to here")
            yield Member(name, entry.size, archive, entry.offset, entry.content)


def is_safe(path: str) -> bool:
    """True if `path` is a relative path that a member can have, as `safe_name` would write it."""
    try:
        return safe_name(path) == path != ""
    except BrokenError:
        return False


def safe_name(name: str) -> str:
    """Return a member's name as a relative path without `.` and doubled slashes; empty for the folder itself.

    Raises:
        BrokenError: it is absolute, leaves its folder, or no file should have it.
    """
    if any(ord(character) < 32 or ord(character) == 127 for character in name):
        raise BrokenError("a control character in its name")
    if "\\" in name:
        raise BrokenError("a backslash in its name")
    if name.startswith("/") or name[1:2] == ":":
        raise BrokenError("an absolute path")
    parts = PurePosixPath(name).parts
    if ".." in parts:
        raise BrokenError("leaves its folder")
    if not is_utf8(name):
        raise BrokenError("its name is not in UTF-8")
    lengths = [len(part.encode()) for part in parts]
    if max(lengths, default=0) > LONGEST_PART or sum(lengths) + len(lengths) > LONGEST_NAME:
        raise BrokenError("its name is too long")
    return "/".join(parts)


def _files(
    archive: Path, above: str, found: Iterator[ArchiveEntry], nested: bool
) -> Iterator[tuple[str, ArchiveEntry]]:
    """Yield names and entries of the regular files of an archive, or of the tar `above` inside it."""
    names = _Names()
    for entry in found:
        with _one_line(archive, above + entry.name):
            name = safe_name(entry.name)
            if entry.problem:
                raise BrokenError(entry.problem)
            if entry.folder:
                continue
            inner = nested and name.endswith(".tar")
            name = name.removesuffix(".tar") if inner else name
            names.add(name)
            if inner:
                yield from _files(archive, f"{above}{name}/", tar_entries(entry.content()), nested=False)
            else:
                yield above + name, entry


class _Names:
    """Names of the files so far: none comes twice, and none is the folder of another."""

    def __init__(self) -> None:
        self._files: set[str] = set()
        self._folders: set[str] = set()

    def add(self, name: str) -> None:
        if not name:
            raise BrokenError("has no name")
        if name in self._files:
            raise BrokenError("comes twice")
        if name in self._folders:
            raise BrokenError("is a folder, too")
        self._files.add(name)
        above = name.rpartition("/")[0]
        while above and above not in self._folders:
            if above in self._files:
                raise BrokenError(f"{above!r} is a file, too")
            self._folders.add(above)
            above = above.rpartition("/")[0]


READ_ERRORS = (BrokenError, tarfile.TarError, zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError)
"""Errors of reading a broken archive; gzip's are OSErrors."""
PARSING_ERRORS = (ValueError, OverflowError, NotImplementedError, RuntimeError)
"""Errors of tarfile's and zipfile's own parsing."""


@contextmanager
def _one_line(archive: Path, name: str | None = None) -> Iterator[None]:
    """Turn what reading a bad archive raises into one line with archive and member."""
    place = f"{archive}" if name is None else f"{archive}: {name!r}"
    try:
        yield
    except READ_ERRORS as error:
        raise ScfsError(f"{place}: {getattr(error, 'strerror', None) or error}") from None
    except PARSING_ERRORS as error:
        raise ScfsError(f"{place}: cannot be read: {error}") from None
