"""Bytes of archives: exactly as many as asked for, in place where they lie uncompressed, else as they stream by."""

import os
from collections.abc import Callable
from typing import Protocol

PIECE = 1 << 20
"""Bytes read at a time, at most."""


class BrokenError(Exception):
    """What is wrong with an archive; the reader above adds which one, and where in it."""


class Source(Protocol):
    """Bytes that an archive or a member of it is made of."""

    def tell(self) -> int:
        """Position."""

    def seek(self, position: int) -> object:
        """Go to a position."""

    def read(self, size: int) -> bytes:
        """Exactly the next `size` bytes; raises BrokenError if there are fewer."""

    def part(self, offset: int, size: int) -> "Source":
        """The `size` bytes from `offset` on."""

    def place(self, offset: int) -> int | None:
        """Where the byte at `offset` lies in the archive's file; None where it is compressed."""


class InPlace:
    """Bytes of a file, read where they lie."""

    def __init__(self, descriptor: int, start: int, size: int) -> None:
        self._descriptor, self._start, self._size, self._position = descriptor, start, size, 0

    def tell(self) -> int:
        """Position."""
        return self._position

    def seek(self, position: int) -> None:
        """Go to a position."""
        self._position = position

    def read(self, size: int) -> bytes:
        """Exactly the next `size` bytes."""
        if self._position + size > self._size:
            raise BrokenError("ends too early")
        content = os.pread(self._descriptor, size, self._start + self._position)
        if len(content) != size:
            raise BrokenError("ends too early")
        self._position += size
        return content

    def part(self, offset: int, size: int) -> "InPlace":
        """The `size` bytes from `offset` on."""
        if offset + size > self._size:
            raise BrokenError("ends too early")
        return InPlace(self._descriptor, self._start + offset, size)

    def place(self, offset: int) -> int:
        """Where the byte at `offset` lies in the file."""
        return self._start + offset


class Stream:
    """Bytes that can be read once only, from first to last."""

    def __init__(self, read: Callable[[int], bytes], size: int | None = None) -> None:
        self._read, self._size, self._position = read, size, 0

    def tell(self) -> int:
        """Position."""
        return self._position

    def seek(self, position: int) -> None:
        """Go forward to a position."""
        if position < self._position:
            raise BrokenError("can be read only once, while the iteration stands at it")
        while self._position < position:
            self.read(min(PIECE, position - self._position))

    def read(self, size: int) -> bytes:
        """Exactly the next `size` bytes."""
        if self._size is not None and self._position + size > self._size:
            raise BrokenError("ends too early")
        pieces, missing = [], size
        while missing:
            piece = self._read(missing)
            if not piece:
                raise BrokenError("ends too early")
            pieces.append(piece)
            missing -= len(piece)
        self._position += size
        return b"".join(pieces)

    def part(self, offset: int, size: int) -> "Stream":
        """The `size` bytes from `offset` on."""
        self.seek(offset)
        return Stream(self.read, size)

    def place(self, offset: int) -> None:
        """Nowhere: they are compressed."""
