"""What tars, zips and gzip files say of their members, one after the other, before any of it is believed."""

import gzip
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from scfs.data.archives.byte_streams import PIECE, BrokenError, InPlace, Source, Stream

LONGEST_HEADER = 1 << 14
"""Bytes of all headers of one member of a tar; tarfile holds them in memory, and takes quadratic time over some."""
LONGEST_PADDING = 1 << 24
"""Bytes after the end of a compressed tar: GNU tar fills its last record with zeros."""
LOCAL_HEADER = struct.Struct("<4s22xHH")
"""Of a member of a zip: signature, and the lengths of name and extra field that follow it (APPNOTE.TXT 4.3.7)."""


class Entry(NamedTuple):
    """A member as the archive describes it."""

    name: str
    size: int
    folder: bool
    problem: str | None
    """Why it is neither a file nor a folder."""
    offset: int | None
    """Of its bytes in the archive's file, where they lie there uncompressed."""
    source: Callable[[], Source]
    """Opens its bytes, while the iteration stands at it."""


def entries(archive: Path, file: IO[bytes]) -> Iterator[Entry]:
    """Members of an archive, by the ending of its name, in its order.

    Raises:
        BrokenError, or what tarfile, zipfile, gzip and zlib raise.
    """
    name = archive.name.lower()
    size = archive.stat().st_size
    if name.endswith(".tar"):
        return tar_entries(InPlace(file.fileno(), 0, size))
    if name.endswith((".tar.gz", ".tgz")):
        return _compressed_tar_entries(file)
    if name.endswith(".zip"):
        return _zip_entries(file, size)
    if name.endswith(".gz"):
        return _gzip_entry(archive.name[: -len(".gz")], file)
    raise BrokenError("not an archive by its name: not among .tar, .tar.gz, .tgz, .zip, .gz")


class _Headers:
    """What tarfile reads of a tar: nothing but headers, not too much of them, and exactly."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.left = LONGEST_HEADER
        self.last = b""
        """What was read last."""

    def read(self, size: int) -> bytes:
        self.left -= size
        if size < 0:
            raise BrokenError("a broken header (negative size)")
        if self.left < 0:
            raise BrokenError(f"a member's header has more than {LONGEST_HEADER} bytes")
        self.last = self._source.read(size)
        return self.last

    def seek(self, position: int) -> None:
        self._source.seek(position)

    def tell(self) -> int:
        return self._source.tell()


def tar_entries(source: Source) -> Iterator[Entry]:
    """Members of a tar. Nothing of it is kept, so that a tar may have any number of them."""
    headers = _Headers(source)
    try:
        tar: Any = tarfile.TarFile(fileobj=cast(Any, headers))
        _check_end(tar.firstmember, headers)
    except (BrokenError, tarfile.TarError) as error:
        raise BrokenError(f"not a tar archive: {error}") from None
    while (info := _next(tar)) is not None:
        tar.members.clear()  # an attribute that typeshed does not know
        if info.size < 0:
            raise BrokenError("a broken header (negative size)")
        problem = _problem_in_tar(info)
        start, size = info.offset_data, 0 if problem or info.isdir() else info.size
        source.part(start, size)
        yield Entry(info.name, size, info.isdir(), problem, source.place(start), partial(source.part, start, size))
        headers.left = LONGEST_HEADER
    _check_end(None, headers)


def _next(tar: tarfile.TarFile) -> tarfile.TarInfo | None:
    try:
        return tar.next()
    except tarfile.ReadError as error:
        raise BrokenError(f"a broken header ({error})") from None


def _check_end(info: tarfile.TarInfo | None, headers: _Headers) -> None:
    """Zeros or nothing are an archive's end; tarfile takes a broken header for it, too."""
    if info is not None or not any(headers.last):
        return
    reason = "invalid"
    try:
        tarfile.TarInfo.frombuf(headers.last, tarfile.ENCODING, "surrogateescape")
    except tarfile.TarError as error:
        reason = str(error)
    raise BrokenError(f"a broken header ({reason})")


def _problem_in_tar(info: tarfile.TarInfo) -> str | None:
    if info.issym() or info.islnk():
        return "a link"
    if info.isdev():
        return "a device"
    if info.issparse():
        return "a sparse file"
    return None if info.isfile() or info.isdir() else f"a member of the unknown type {info.type!r}"


def _compressed_tar_entries(file: IO[bytes]) -> Iterator[Entry]:
    with gzip.open(file) as content:
        yield from tar_entries(Stream(content.read))
        padding = 0
        while piece := content.read(PIECE):  # to its end, where its checksum is
            padding += len(piece)
            if padding > LONGEST_PADDING:
                raise BrokenError(f"more than {LONGEST_PADDING} bytes after its end")


def _zip_entries(file: IO[bytes], size: int) -> Iterator[Entry]:
    try:
        archive = zipfile.ZipFile(file)
    except zipfile.BadZipFile as error:
        raise BrokenError(f"not a zip archive, or it ends too early: {error}") from None
    whole = InPlace(file.fileno(), 0, size)
    with closing(archive):
        for info in archive.infolist():
            problem = _problem_in_zip(info)
            place = None
            if not problem and info.compress_type == zipfile.ZIP_STORED:
                place = _place_in_zip(whole, info)
            opened = partial(_open_in_zip, archive, info)
            # `filename` would be cut at a NUL.
            yield Entry(info.orig_filename, info.file_size, info.is_dir(), problem, place, opened)


def _open_in_zip(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Stream:
    """Its bytes, which zipfile checks against their CRC."""
    return Stream(archive.open(info).read, info.file_size)


def _problem_in_zip(info: zipfile.ZipInfo) -> str | None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "a link"
    if kind not in (0, stat.S_IFDIR if info.is_dir() else stat.S_IFREG):
        return "neither a file nor a folder"
    return "encrypted" if info.flag_bits & 1 else None


def _place_in_zip(whole: InPlace, info: zipfile.ZipInfo) -> int:
    """Where an uncompressed member's bytes begin: after its local header."""
    whole.seek(info.header_offset)
    signature, name, extra = LOCAL_HEADER.unpack(whole.read(LOCAL_HEADER.size))
    if signature != b"PK\x03\x04":
        raise BrokenError(f"{info.orig_filename!r}: a broken header")
    start = info.header_offset + LOCAL_HEADER.size + name + extra
    return whole.part(start, info.file_size).place(0)


def _gzip_entry(name: str, file: IO[bytes]) -> Iterator[Entry]:
    """The one file in a .gz; it is read twice, since only its end tells its size, and that modulo 2^32."""
    size = 0
    with gzip.open(file) as content:
        while piece := content.read(PIECE):
            size += len(piece)
        content.seek(0)
        yield Entry(name, size, False, None, None, lambda: Stream(content.read, size))
