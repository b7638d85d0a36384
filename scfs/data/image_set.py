"""A data set as the rest of the package sees it: an ordered set of images, with labels or without.

An image is a file of its own, or a range of bytes of a larger one: of a shard, or of an official archive.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from scfs.errors import ScfsError

MOST_OPEN = 128
"""Shards that a process keeps open; it may have 1024 files by default."""


class Place(NamedTuple):
    """Position of an image's bytes within a larger file."""

    shard: str
    """File, relative to the split's root, with forward slashes."""
    offset: int
    """Offset of its first byte."""
    size: int
    """Bytes."""


@dataclass(frozen=True, eq=False)
class Places:
    """Places of n images."""

    shards: tuple[str, ...]
    """Files, relative to the split's root."""
    numbers: np.ndarray
    """(n,) int32, indices into `shards`."""
    offsets: np.ndarray
    """(n,) int64."""
    sizes: np.ndarray
    """(n,) int64, bytes."""

    @classmethod
    def of_table(cls, table: pa.Table) -> "Places":
        """Take columns `shard`, `offset` and `size`."""
        shards = table["shard"].combine_chunks().dictionary_encode()
        offsets, sizes = (table[name].to_numpy().astype(np.int64) for name in ("offset", "size"))
        return cls(tuple(shards.dictionary.to_pylist()), shards.indices.to_numpy().astype(np.int32), offsets, sizes)

    def subset(self, rows: np.ndarray) -> "Places":
        """Return the places of some rows (m,), in that order."""
        return replace(self, numbers=self.numbers[rows], offsets=self.offsets[rows], sizes=self.sizes[rows])

    def joined(self, root: Path, other: "Places", other_root: Path) -> "Places":
        """Return these places and then others, with the shards' whole paths."""
        shards = [str(root / shard) for shard in self.shards] + [str(other_root / shard) for shard in other.shards]
        return Places(
            tuple(shards),
            np.concatenate([self.numbers, other.numbers + np.int32(len(self.shards))]),
            np.concatenate([self.offsets, other.offsets]),
            np.concatenate([self.sizes, other.sizes]),
        )

    def __getitem__(self, row: int) -> Place:
        return Place(self.shards[self.numbers[row]], int(self.offsets[row]), int(self.sizes[row]))


@dataclass
class ImageRows:
    """Rows of one split as they go into a manifest."""

    paths: list[str] = field(default_factory=list)
    """Relative to the split's root, with forward slashes."""
    widths: list[int] = field(default_factory=list)
    heights: list[int] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)
    """SHA-256 of each file, 32 bytes."""
    labels: list[int] | None = None
    """Indices into the classes; None: the split has no labels."""
    places: Places | None = None
    """Places of the images in larger files; None: each image is a file."""

    def add(self, path: str, width: int, height: int, sha256: bytes) -> None:
        """Append an image; labels and places are set for all at once."""
        self.paths.append(path)
        self.widths.append(width)
        self.heights.append(height)
        self.hashes.append(sha256)


@dataclass(frozen=True, eq=False)
class ImageSet:
    """One split of a data set."""

    name: str
    """Data set."""
    split: str
    root: Path
    """Folder that `paths` are relative to."""
    paths: list[str]
    widths: np.ndarray
    """(n,) int32, pixels as stored: EXIF orientation is not applied."""
    heights: np.ndarray
    """(n,) int32."""
    labels: np.ndarray | None
    """(n,) int64, indices into `classes`; None where the split has no labels."""
    classes: tuple[str, ...]
    """Names by label; empty where there are none."""
    digest: str
    """SHA-256 over the content hashes and labels, in order: the same images elsewhere have the same digest."""
    places: Places | None = None
    """Places of the images in larger files; None: each image is a file."""

    @classmethod
    def of(cls, name: str, split: str, root: Path, classes: Sequence[str], rows: ImageRows) -> "ImageSet":
        """Make a set of a manifest's rows."""
        labels = None if rows.labels is None else np.array(rows.labels, np.int64)
        digest = hashlib.sha256(b"".join(rows.hashes))
        if labels is not None:
            digest.update(labels.astype("<i8").tobytes())
        sizes = np.array(rows.widths, np.int32), np.array(rows.heights, np.int32)
        return cls(name, split, root, rows.paths, *sizes, labels, tuple(classes), digest.hexdigest(), rows.places)

    def __len__(self) -> int:
        return len(self.paths)

    def subset(self, rows: np.ndarray) -> "ImageSet":
        """Return the images of some rows (m,), in that order, as a set with a digest of its own."""
        digest = hashlib.sha256(self.digest.encode() + rows.astype("<i8").tobytes())
        return replace(
            self,
            paths=[self.paths[row] for row in rows.tolist()],
            widths=self.widths[rows],
            heights=self.heights[rows],
            labels=None if self.labels is None else self.labels[rows],
            digest=digest.hexdigest(),
            places=None if self.places is None else self.places.subset(rows),
        )

    def joined(self, other: "ImageSet") -> "ImageSet":
        """Return these images and then another split's of the same data set; both have labels or neither has."""
        here, there = self.labels, other.labels
        both = self.places, other.places
        return replace(
            self,
            split=f"{self.split}+{other.split}",
            root=Path(),
            paths=[str(images.root / path) for images in (self, other) for path in images.paths],
            widths=np.concatenate([self.widths, other.widths]),
            heights=np.concatenate([self.heights, other.heights]),
            labels=None if here is None or there is None else np.concatenate([here, there]),
            digest=hashlib.sha256((self.digest + other.digest).encode()).hexdigest(),
            places=None if both[0] is None or both[1] is None else both[0].joined(self.root, both[1], other.root),
        )

    def read(self, row: int) -> bytes:
        """Read the encoded content of an image.

        Raises:
            ScfsError: it is gone or cannot be read.
        """
        if self.places is not None:
            return read_place(self.root, self.places[row])
        path = self.root / self.paths[row]
        try:
            return path.read_bytes()
        except OSError as error:
            raise ScfsError(f"{path}: cannot be read: {error.strerror}") from None

    def where(self, row: int) -> str:
        """Name an image for messages."""
        if self.places is None:
            return f"{self.root / self.paths[row]}"
        return f"{self.root / self.places[row].shard}: {self.paths[row]}"

    def require_labels(self) -> np.ndarray:
        """Return the labels, (n,) int64.

        Raises:
            ScfsError: the split has none.
        """
        if self.labels is None:
            raise ScfsError(
                f"data set {self.name}, split {self.split}: has no labels, and they are needed here: "
                "a folder of images has labels if it holds one sub-folder per class"
            )
        return self.labels


class _OpenFile:
    """A file that is open as long as somebody has this object."""

    def __init__(self, path: Path) -> None:
        self.descriptor = -1
        self.descriptor = os.open(path, os.O_RDONLY)
        # Whole images at scattered places: without this the kernel reads on from places that it knows, and half of a
        # shard read in random order costs three quarters of it (Linux 6, images of 110 kB).
        os.posix_fadvise(self.descriptor, 0, 0, os.POSIX_FADV_RANDOM)

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


_open_file = lru_cache(maxsize=MOST_OPEN)(_OpenFile)
close_files = _open_file.cache_clear
"""Forget the open files, as others may stand in their places."""


def read_place(root: Path, place: Place) -> bytes:
    """Read an image within a larger file, which stays open for the next one.

    Threads may read at once, and processes that were forked meanwhile: nobody moves the position in the file.

    Raises:
        ScfsError: the file is gone, cannot be read or ends before.
    """
    path = root / place.shard
    try:
        file = _open_file(path)
        content = os.pread(file.descriptor, place.size, place.offset)
        while 0 < len(content) < place.size:
            more = os.pread(file.descriptor, place.size - len(content), place.offset + len(content))
            if not more:
                break
            content += more
    except OSError as error:
        raise ScfsError(f"{path}: cannot be read: {error.strerror}") from None
    if len(content) < place.size:
        raise ScfsError(f"{path}: cut off: it has no {place.size} bytes at {place.offset}")
    return content
