"""The formats of archives: what a tar, zip or gzip file says about its members, before any of it is believed.

tarfile and zipfile say where members lie. They are kept from reading too much, and their errors become one type.
"""

import gzip
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from scfs.errors import refusing

PIECE = 1 << 20
"""Bytes read at a time, at most."""
LONGEST_HEADER = 1 << 14
"""Most bytes of all headers of one member of a tar; tarfile keeps them, and takes quadratic time over some."""
LONGEST_PADDING = 1 << 24
"""Most bytes after the end of a compressed tar: GNU tar fills its last record with zeros."""


class BrokenError(Exception):
    """Error of a broken archive; the caller adds the archive and the member to its message."""


class ByteRange:
    """A range of bytes of an archive's file, or of the content that is decompressed from it.

    Args:
        file: open for reading; a compressed one is only read forward.
        start: offset of the range's first byte.
        size: bytes of the range; None: all until the end.
        in_place: True if `file` is the archive itself, whose bytes can be read in any order.
    """

    def __init__(
        self, file: IO[bytes] | gzip.GzipFile, start: int = 0, size: int | None = None, *, in_place: bool
    ) -> None:
        self._file, self._start, self._size, self._in_place = file, start, size, in_place

    def read(self, position: int, size: int) -> bytes:
        """Return exactly the `size` bytes from `position` on; raises BrokenError if there are fewer."""
        start = self.part(position, size)._start
        if not self._in_place and start < self._file.tell():
            raise BrokenError("can be read only once, while the iteration stands at it")
        self._file.seek(start)
        content = self._file.read(size)
        if len(content) != size:
            raise BrokenError("ends too early")
        return content

    def part(self, position: int, size: int) -> "ByteRange":
        """Return the range of the `size` bytes from `position` on; raises BrokenError if there are fewer."""
        if self._size is not None and position + size > self._size:
            raise BrokenError("ends too early")
        return ByteRange(self._file, self._start + position, size, in_place=self._in_place)

    @property
    def offset(self) -> int | None:
        """Offset of the first byte in the archive's file; None where it is compressed."""
        return self._start if self._in_place else None


class ArchiveEntry(NamedTuple):
    """A member as the archive describes it."""

    name: str
    size: int
    folder: bool
    problem: str | None
    """Reason why it is neither a file nor a folder."""
    offset: int | None
    """Offset of its bytes in the archive's file, where they lie there uncompressed."""
    content: Callable[[], ByteRange]
    """Opens its bytes, while the iteration stands at it."""


def entries(archive: Path, file: IO[bytes]) -> Iterator[ArchiveEntry]:
    """Yield the members of an archive, whose name's ending says its format, in its order.

    Raises:
        BrokenError: the archive is not what its name says, is broken or ends too early. tarfile, zipfile, gzip and zlib
            raise errors of their own, too.
    """
    name = archive.name.lower()
    whole = ByteRange(file, 0, archive.stat().st_size, in_place=True)
    if name.endswith(".tar"):
        return tar_entries(whole)
    if name.endswith((".tar.gz", ".tgz")):
        return _compressed_tar_entries(file)
    if name.endswith(".zip"):
        return _zip_entries(file, whole)
    if name.endswith(".gz"):
        return _gzip_entry(archive.name[: -len(".gz")], file)
    raise BrokenError("not an archive by its name: not among .tar, .tar.gz, .tgz, .zip, .gz")


class _Headers:
    """The file that tarfile reads: exactly the bytes it asks for, and not more headers than LONGEST_HEADER."""

    def __init__(self, tar: ByteRange) -> None:
        self._tar = tar
        self.position, self.left = 0, LONGEST_HEADER
        self.last = b""
        """The bytes read last."""

    def read(self, size: int) -> bytes:
        self.left -= size
        if size < 0:
            raise BrokenError("a broken header: negative size")
        if self.left < 0:
            raise BrokenError(f"a member's header has more than {LONGEST_HEADER} bytes")
        self.last = self._tar.read(self.position, size)
        self.position += size
        return self.last

    def seek(self, position: int) -> None:
        self.position = position

    def tell(self) -> int:
        return self.position


def tar_entries(content: ByteRange) -> Iterator[ArchiveEntry]:
    """Yield the members of a tar. Nothing of it is kept, so that a tar may have any number of them."""
    headers = _Headers(content)
    with refusing("not a tar archive", BrokenError, tarfile.TarError, into=BrokenError):
        tar: Any = tarfile.TarFile(fileobj=cast(Any, headers))
        _check_end(tar.firstmember, headers)
    with refusing("a broken header", tarfile.ReadError, into=BrokenError):
        while (info := tar.next()) is not None:
            tar.members.clear()  # an attribute that typeshed does not know
            if info.size < 0:
                raise BrokenError("a broken header: negative size")
            problem = _problem_in_tar(info)
            size = 0 if problem or info.isdir() else info.size
            found = content.part(info.offset_data, size)
            yield ArchiveEntry(info.name, size, info.isdir(), problem, found.offset, partial(found.part, 0, size))
            headers.left = LONGEST_HEADER
            headers.position = tar.offset  # else tarfile would look at the byte before: gone if it is compressed
    _check_end(None, headers)


def _check_end(info: tarfile.TarInfo | None, headers: _Headers) -> None:
    """Refuse a broken header, which tarfile takes for an archive's end: that is zeros or nothing."""
    if info is None and any(headers.last):
        with refusing("a broken header", tarfile.TarError, into=BrokenError):
            tarfile.TarInfo.frombuf(headers.last, tarfile.ENCODING, "surrogateescape")
        raise BrokenError("a broken header: invalid")


def _problem_in_tar(info: tarfile.TarInfo) -> str | None:
    if info.issym() or info.islnk():
        return "a link"
    if info.isdev():
        return "a device"
    if info.issparse():
        return "a sparse file"
    return None if info.isfile() or info.isdir() else f"a member of the unknown type {info.type!r}"


def _compressed_tar_entries(file: IO[bytes]) -> Iterator[ArchiveEntry]:
    with gzip.open(file) as content:
        yield from tar_entries(ByteRange(content, in_place=False))
        padding = 0
        while piece := content.read(PIECE):  # to its end, where its checksum is
            padding += len(piece)
            if padding > LONGEST_PADDING:
                raise BrokenError(f"more than {LONGEST_PADDING} bytes after its end")


def _zip_entries(file: IO[bytes], whole: ByteRange) -> Iterator[ArchiveEntry]:
    with refusing("not a zip archive, or it ends too early", zipfile.BadZipFile, into=BrokenError):
        archive = zipfile.ZipFile(file)
    with archive:
        for info in archive.infolist():
            problem, offset = _problem_in_zip(info), None
            if not problem and info.compress_type == zipfile.ZIP_STORED:
                offset = _offset_in_zip(archive, info, file, whole)
            content = partial(_open_in_zip, archive, info)
            name = info.orig_filename  # `filename` would be cut at a NUL
            yield ArchiveEntry(name, info.file_size, info.filename.endswith("/"), problem, offset, content)


def _open_in_zip(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> ByteRange:
    """Open a member, whose bytes zipfile checks against their CRC."""
    return ByteRange(archive.open(info), 0, info.file_size, in_place=False)


def _offset_in_zip(archive: zipfile.ZipFile, info: zipfile.ZipInfo, file: IO[bytes], whole: ByteRange) -> int | None:
    """Return the offset of an uncompressed member's bytes: zipfile reads its local header and stops behind it."""
    what = f"{info.orig_filename!r}: a broken header"
    with refusing(what, zipfile.BadZipFile, into=BrokenError), archive.open(info):
        return whole.part(file.tell(), info.file_size).offset


def _problem_in_zip(info: zipfile.ZipInfo) -> str | None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "a link"
    if kind not in (0, stat.S_IFDIR if info.filename.endswith("/") else stat.S_IFREG):
        return "neither a file nor a folder"
    return "encrypted" if info.flag_bits & 1 else None


def _gzip_entry(name: str, file: IO[bytes]) -> Iterator[ArchiveEntry]:
    """Yield the one file in a .gz; it is read twice, since only its end tells its size, and that modulo 2^32."""
    size = 0
    with gzip.open(file) as content:
        while piece := content.read(PIECE):
            size += len(piece)
        content.seek(0)
        yield ArchiveEntry(name, size, False, None, None, lambda: ByteRange(content, 0, size, in_place=False))
