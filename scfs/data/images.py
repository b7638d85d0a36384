"""What the rest of the package knows of a data set: an ordered set of image files, with labels or without."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from scfs.errors import ScfsError


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
    """None: the split has no labels."""

    def add(self, path: str, width: int, height: int, sha256: bytes) -> None:
        """Append an image; labels are set for all at once."""
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

    @classmethod
    def of(cls, name: str, split: str, root: Path, classes: Sequence[str], rows: ImageRows) -> "ImageSet":
        """Make a set of a manifest's rows."""
        labels = None if rows.labels is None else np.array(rows.labels, np.int64)
        digest = hashlib.sha256(b"".join(rows.hashes))
        if labels is not None:
            digest.update(labels.astype("<i8").tobytes())
        sizes = np.array(rows.widths, np.int32), np.array(rows.heights, np.int32)
        return cls(name, split, root, rows.paths, *sizes, labels, tuple(classes), digest.hexdigest())

    def __len__(self) -> int:
        return len(self.paths)

    def subset(self, rows: np.ndarray) -> "ImageSet":
        """The images of some rows (m,), in that order, as a set with a digest of its own."""
        digest = hashlib.sha256(self.digest.encode() + rows.astype("<i8").tobytes())
        return replace(
            self,
            paths=[self.paths[row] for row in rows.tolist()],
            widths=self.widths[rows],
            heights=self.heights[rows],
            labels=None if self.labels is None else self.labels[rows],
            digest=digest.hexdigest(),
        )

    def joined(self, other: "ImageSet") -> "ImageSet":
        """These images and then those of another split of the same data set; both have labels or neither has."""
        here, there = self.labels, other.labels
        return replace(
            self,
            split=f"{self.split}+{other.split}",
            root=Path(),
            paths=[str(images.root / path) for images in (self, other) for path in images.paths],
            widths=np.concatenate([self.widths, other.widths]),
            heights=np.concatenate([self.heights, other.heights]),
            labels=None if here is None or there is None else np.concatenate([here, there]),
            digest=hashlib.sha256((self.digest + other.digest).encode()).hexdigest(),
        )

    def read(self, row: int) -> bytes:
        """Content of an image file.

        Raises:
            ScfsError: the file is gone or cannot be read.
        """
        path = self.root / self.paths[row]
        try:
            return path.read_bytes()
        except OSError as error:
            raise ScfsError(f"{path}: cannot be read: {error.strerror}") from None

    def require_labels(self) -> np.ndarray:
        """(n,) int64 labels.

        Raises:
            ScfsError: the split has none.
        """
        if self.labels is None:
            raise ScfsError(
                f"data set {self.name}, split {self.split}: has no labels, and they are needed here: "
                "a folder of images has labels if it holds one sub-folder per class"
            )
        return self.labels
