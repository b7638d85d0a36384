"""Records, which the parsers of official archives yield, and the images that label files name."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from scfs.data.archives.members import Member, members
from scfs.data.sources.folders import ENDINGS
from scfs.errors import ScfsError


@dataclass(frozen=True)
class Record:
    """One image of a labelled data set."""

    split: str
    path: str
    """Within the split, with forward slashes: the class's folder, and the file."""
    label: int | None
    """Index into the classes of the set."""
    member: Member | None
    """Member with the image's bytes, to be read before the next record is taken; None if `content` is given."""
    content: bytes | None
    """The image as a PNG file, where the archive holds raw pixels; else None."""


@dataclass(frozen=True)
class ImageLabel:
    """Split, path and label that label files give an image."""

    split: str
    path: str
    label: int


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
            yield Record(entry.split, entry.path, entry.label, member, None)
        elif not unlabelled and member.name.startswith(f"{folder}/") and is_image(member.name):
            raise ScfsError(f"{archive}: {member.name}: no label names this image")
    if left:
        number = f"{len(left)} of the {len(entries)}"
        raise ScfsError(f"{archive}: {number} images that the labels name are missing, the first is {next(iter(left))}")


def is_image(name: str) -> bool:
    """True if a member is an image by its name, and not hidden (as macOS's AppleDouble files `._`)."""
    path = PurePosixPath(name)
    return path.suffix.lower() in ENDINGS and not path.name.startswith(".")
