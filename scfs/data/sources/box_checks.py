"""Checks of boxes (left, top, width and height in pixels, 0-based, from edge to edge: COCO's form) and of splits."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from scfs.data.sources.folders import probed_rows, require_readable
from scfs.errors import ScfsError
from scfs.io.progress import track

MARGIN = 1
"""Pixels that a box may reach over each border of its image: COCO's and VOC's own boxes are rounded. Nothing is clipped
here: whoever trains on a box or shows it does that."""


def outside(box: Sequence[float], width: int, height: int) -> str | None:
    """Say if a box reaches over a border of its image by more than `MARGIN`; None if not."""
    left, top, across, down = box
    inside = min(left, top) >= -MARGIN and left + across <= width + MARGIN and top + down <= height + MARGIN
    return None if inside else f"outside its image of {width} x {height} pixels by more than {MARGIN}"


def require_instances(source: str, split: str, absent: Sequence[str], classes: int) -> None:
    """Refuse a split without an instance of a class: its average precision is not defined.

    Args:
        source: where the annotations are from.
        split: which one it is.
        absent: classes without an instance that counts, neither crowd nor difficult.
        classes: number of all.

    Raises:
        ScfsError: there is one.
    """
    if absent:
        number = f"{len(absent)} of the {classes} classes"
        raise ScfsError(
            f"{source}: split {split} has no instance of {number}, the first is {absent[0]!r} "
            "(crowds and difficult objects do not count): a class needs instances in every split"
        )


def read_annotated_images(folder: Path, sizes: Mapping[str, tuple[int, int]], source: str) -> pa.Table:
    """Open every image, in the order of their paths; others in the folder are ignored.

    Args:
        folder: where they are.
        sizes: (width, height) in pixels as annotated, by path within the folder.
        source: what names the images, for messages.

    Raises:
        ScfsError: no such folder; or images are missing, cannot be decoded, or have another size: how many, the first.
    """
    if not folder.is_dir():
        raise ScfsError(f"{folder}: no such folder")
    paths = sorted(sizes)
    require_files(folder, paths, f"images that {source} names")
    rows, broken = probed_rows(folder, paths)
    require_readable(f"{folder}", broken, len(paths))
    others = [
        "{} ({} x {} pixels, annotated as {} x {} pixels)".format(path, *found, *sizes[path])
        for path, *found in zip(*(rows[name].to_pylist() for name in ("path", "width", "height")))
        if tuple(found) != sizes[path]
    ]
    if others:
        number = f"{len(others)} of {len(paths)} images"
        raise ScfsError(f"{folder}: {number} have another size than {source} says, the first is {others[0]}")
    return rows


def require_files(folder: Path, paths: Sequence[str], what: str) -> None:
    """Refuse files that are missing.

    Args:
        folder: where they should be.
        paths: within the folder.
        what: they are, for messages.

    Raises:
        ScfsError: how many are missing, and the first.
    """
    looked = track(paths, f"looking into {folder}", "files")
    missing = [path for path in looked if not (folder / path).is_file()]
    if missing:
        raise ScfsError(f"{folder}: {len(missing)} of {len(paths)} {what} are missing, the first is {missing[0]!r}")
