"""Tar shards: equal images give equal bytes, and where each image lies in them is known while they are written.

Any tar can list and unpack them. Names are those of the manifest's rows; times, owners and permissions are the same in
all (POSIX.1-2001 pax, which is plain ustar for names of usual length).
"""

import tarfile
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from scfs.data.image_set import Place
from scfs.io.atomic import move_into_place

BLOCK = tarfile.BLOCKSIZE
MODE = 0o644
END = bytes(2 * BLOCK)
"""Bytes that end a tar."""


class ShardWriter:
    """A shard that appears whole, under its name, when it is closed.

    Args:
        path: where it is to stand.
        part: where it is written; on the same file system.

    Raises:
        OSError: it cannot be written; so do the methods.
    """

    def __init__(self, path: Path, part: Path) -> None:
        self.path, self.part = path, part
        self._file: BinaryIO = part.open("wb")
        self._size = 0

    def add(self, name: str, content: bytes) -> Place:
        """Append an image, and say where it is."""
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.mtime = len(content), MODE, 0
        header = info.tobuf(tarfile.PAX_FORMAT)
        offset = self._size + len(header)
        self._size += self._file.write(header + content + bytes(-len(content) % BLOCK))
        return Place(self.path.name, offset, len(content))

    def close(self) -> None:
        """Put the whole shard in its place, so that it outlasts a power cut."""
        self._file.write(END)
        self._file.close()
        move_into_place(self.part, self.path)

    def discard(self) -> None:
        """Leave it unfinished."""
        with suppress(OSError):  # what is not written yet may not fit on the disk
            self._file.close()
        self.part.unlink(missing_ok=True)
