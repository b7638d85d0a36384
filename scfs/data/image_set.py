"""A data set as the rest of the package sees it: an ordered set of images, with labels or without.

An image is a file of its own, or a range of bytes of a larger one: of a shard, or of an official archive.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from io import FileIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scfs.errors import ScfsError, reading
from scfs.io.files import read_regular
from scfs.io.progress import log

MOST_OPEN = 128
"""Shards that a process keeps open; it may have 1024 files by default."""

ROWS = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("label", pa.int32()),
        pa.field("sha256", pa.binary(32), nullable=False),
    ]
)
"""Columns of images: path relative to the split's root, with forward slashes; pixels as stored, EXIF orientation is not
applied; index into the classes (null: none); SHA-256 of the encoded image."""


class Place(NamedTuple):
    """Position of an image's bytes within a larger file."""

    shard: str
    """File, relative to the split's root, with forward slashes."""
    offset: int
    """Offset of its first byte."""
    size: int
    """Bytes."""


PLACE_TYPES = pa.string(), pa.int64(), pa.int64()
PLACES = pa.schema([pa.field(*column, nullable=False) for column in zip(Place._fields, PLACE_TYPES)])
"""Further columns of images that lie in larger files, see `Place`."""


def with_labels(rows: pa.Table, labels: Sequence[int]) -> pa.Table:
    """Return rows with these labels."""
    return rows.set_column(ROWS.get_field_index("label"), ROWS.field("label"), [pa.array(labels, pa.int32())])


def warn_of_new_labels(name: str, splits: Mapping[str, tuple[pa.Table, Sequence[str]]]) -> None:
    """Log how many images of each split have labels that the split `train` of the same classes lacks.

    Args:
        name: data set.
        splits: images (columns ROWS) and classes of each; where none is `train`, the first with labels stands for it.
    """
    labels = {split: rows["label"] for split, (rows, _) in splits.items() if len(rows) and not rows["label"].null_count}
    first = "train" if "train" in labels else next(iter(labels), "")
    for split in (split for split in labels if splits[split][1] == splits[first][1]):
        new = labels[split].filter(pc.invert(pc.is_in(labels[split], pc.unique(labels[first]))))
        if len(new):
            example = splits[split][1][new[0].as_py()]
            number = f"{len(new)} images of split {split} have labels that split {first} lacks"
            log(f"warning: data set {name}: {number}, the first is {example!r}")


@dataclass(frozen=True, eq=False)
class ImageSet:
    """One split of a data set."""

    name: str
    """Data set."""
    split: str
    root: Path
    """Folder that paths are relative to."""
    table: pa.Table
    """Images in order: columns ROWS, and PLACES where they lie in larger files."""
    classes: tuple[str, ...]
    """Names by label; empty where there are none."""
    digest: str
    """SHA-256 over the content hashes and labels, in order: the same images elsewhere have the same digest."""

    @classmethod
    def of(cls, name: str, split: str, root: Path, classes: Sequence[str], rows: pa.Table) -> "ImageSet":
        """Make a set of rows, such as a manifest's."""
        digest = hashlib.sha256(b"".join(rows["sha256"].to_pylist()))
        if not rows["label"].null_count:
            digest.update(rows["label"].to_numpy().astype("<i8").tobytes())
        return cls(name, split, root, rows.combine_chunks(), tuple(classes), digest.hexdigest())

    def __len__(self) -> int:
        return len(self.table)

    @cached_property
    def paths(self) -> list[str]:
        """Paths of all images."""
        return list(self.table["path"].to_pylist())

    @cached_property
    def hashes(self) -> list[bytes]:
        """SHA-256 of each encoded image, 32 bytes."""
        return list(self.table["sha256"].to_pylist())

    @cached_property
    def widths(self) -> np.ndarray:
        """Pixels, (n,) int32."""
        return np.asarray(self.table["width"])

    @cached_property
    def heights(self) -> np.ndarray:
        """Pixels, (n,) int32."""
        return np.asarray(self.table["height"])

    @cached_property
    def labels(self) -> np.ndarray | None:
        """Indices into `classes`, (n,) int64; None where the split has no labels."""
        column = self.table["label"]
        return None if column.null_count else column.to_numpy().astype(np.int64)

    @property
    def placed(self) -> bool:
        """True if the images lie in larger files."""
        return "shard" in self.table.column_names

    @property
    def files(self) -> list[str]:
        """Files that the images lie in, or are: one for each image."""
        return list(self.table["shard" if self.placed else "path"].to_pylist())

    def place(self, row: int) -> Place | None:
        """Return where an image lies in a larger file; None if it is a file."""
        return Place(*(self.table[name][row].as_py() for name in PLACES.names)) if self.placed else None

    def subset(self, rows: np.ndarray) -> "ImageSet":
        """Return the images of some rows (m,), in that order, as a set with a digest of its own."""
        digest = hashlib.sha256(self.digest.encode() + rows.astype("<i8").tobytes())
        return replace(self, table=self.table.take(rows), digest=digest.hexdigest())

    def joined(self, other: "ImageSet") -> "ImageSet":
        """Return these images and then another split's of the same data set; both have labels or neither has."""
        table = pa.concat_tables([self._rooted(), other._rooted()]).combine_chunks()
        digest = hashlib.sha256((self.digest + other.digest).encode()).hexdigest()
        return replace(self, split=f"{self.split}+{other.split}", root=Path(), table=table, digest=digest)

    def _rooted(self) -> pa.Table:
        """Return the table with whole paths."""
        table = self.table
        for index, field in enumerate(table.schema):
            if field.name in ("path", "shard"):
                whole = [str(self.root / name) for name in table[field.name].to_pylist()]
                table = table.set_column(index, field, [pa.array(whole, field.type)])
        return table

    def read(self, row: int) -> bytes:
        """Read the encoded content of an image.

        Raises:
            ScfsError: it is gone or cannot be read.
        """
        place = self.place(row)
        if place is not None:
            return read_place(self.root, place)
        path = Path(self.where(row))
        with reading(path):
            return read_regular(path)

    def where(self, row: int) -> str:
        """Name an image for messages."""
        path, place = self.table["path"][row].as_py(), self.place(row)
        return f"{self.root / path}" if place is None else f"{self.root / place.shard}: {path}"

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


class _OpenFile(FileIO):
    """A file that is open as long as somebody has this object."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        # Whole images at scattered places: without this the kernel reads on from places that it knows, and half of a
        # shard read in random order costs three quarters of it (Linux 6, images of 110 kB).
        os.posix_fadvise(self.fileno(), 0, 0, os.POSIX_FADV_RANDOM)

    def __del__(self) -> None:
        self.close()


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
    with reading(path):
        file, content = _open_file(path), b""
        while len(content) < place.size:
            more = os.pread(file.fileno(), place.size - len(content), place.offset + len(content))
            if not more:
                raise ScfsError(f"{path}: cut off: it has no {place.size} bytes at {place.offset}")
            content += more
    return content
