"""Records, which the parsers of official archives yield, and the images that label files name."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from scfs.data import png
from scfs.data.archives.members import Member, members
from scfs.data.sources.folders import ENDINGS
from scfs.errors import ScfsError


class Record(NamedTuple):
    """One image of a labelled data set."""

    split: str
    path: str
    """Within the split, with forward slashes: the class's folder, and the file."""
    label: int
    """Index into the classes of the set."""
    source: Member | bytes
    """Member with the image's bytes; or a PNG file of the pixels, where the archive holds these alone."""

    def read(self) -> bytes:
        """Return the encoded image; call it before the next record is taken."""
        return self.source if isinstance(self.source, bytes) else self.source.read()


ImageLabel = tuple[str, str, int]
"""Split, path and label that label files give an image, see `Record`."""
Parsed = tuple[tuple[str, ...], Iterator[Record]]
"""Names of the classes by label, and images of all splits, in the archives' order: read each before taking the next."""


def add_once(entries: dict[str, ImageLabel], member: str, entry: ImageLabel, place: str) -> None:
    """Add an image to the entries of `labelled`.

    Raises:
        ScfsError: it is among them, and named again at `place`.
    """
    if member in entries:
        raise ScfsError(f"{place}: the image appears twice, first in split {entries[member][0]}")
    entries[member] = entry


def labelled(
    archive: Path, entries: Mapping[str, ImageLabel], folder: str, *, unlabelled: bool = False
) -> Iterator[Record]:
    """Yield records of the images that label files name, in the archive's order.

    Args:
        archive: holds the images.
        entries: by name of the member.
        folder: of the archive, where all images must be named.
        unlabelled: pass over images that are not named, instead.

    Raises:
        ScfsError: an image is not named, or one that is named is missing.
    """
    left = dict(entries)
    for member in members(archive):
        entry = left.pop(member.name, None)
        if entry is not None:
            yield Record(*entry, member)
        elif not unlabelled and member.name.startswith(f"{folder}/") and is_image(member.name):
            raise ScfsError(f"{archive}: {member.name}: no label names this image")
    if left:
        number = f"{len(left)} of the {len(entries)}"
        raise ScfsError(f"{archive}: {number} images that the labels name are missing, the first is {next(iter(left))}")


def of_pixels(
    source: str, split: str, first: int, labels: np.ndarray, images: np.ndarray, folders: Sequence[str]
) -> Iterator[Record]:
    """Yield records of pixels, as `<class>/<index in the split>.png`.

    Args:
        source: file of the labels, for messages.
        split: of all of them.
        first: index of the first image.
        labels: (n,) whole numbers.
        images: (n, H, W) or (n, H, W, 3) uint8.
        folders: of the classes.

    Raises:
        ScfsError: a label is not a class's.
    """
    for row, (label, pixels) in enumerate(zip(labels.tolist(), images)):
        if label >= len(folders):
            raise ScfsError(f"{source}: row {row}: label {label}: {len(folders)} classes")
        yield Record(split, f"{folders[label]}/{first + row:05d}.png", label, png.encode(pixels))


def is_image(name: str) -> bool:
    """True if a member is an image by its name, and not hidden (as macOS's AppleDouble files `._`)."""
    path = PurePosixPath(name)
    return path.suffix.lower() in ENDINGS and not path.name.startswith(".")
