"""Checks of boxes (left, top, width and height in pixels, 0-based, from edge to edge: COCO's form) and of splits."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from scfs.config.data import OwnImages
from scfs.data.sources.folders import sound_rows
from scfs.data.sources.image_probe import upright_size
from scfs.errors import ScfsError
from scfs.io.progress import log, track

MARGIN = 1
"""Pixels that a box may reach over each border of its image as it is: COCO's and VOC's own boxes are rounded. Whoever
trains on such a box or shows it clips it."""
REACH = 3
"""Pixels that a box may reach over a border before it is cut off there, in COCO's format: of hands that slip."""


def outside(box: Sequence[float], width: int, height: int, margin: int = MARGIN) -> str | None:
    """Say if a box reaches over a border of its image by more than a margin; None if not."""
    left, top, across, down = box
    inside = min(left, top) >= -margin and left + across <= width + margin and top + down <= height + margin
    return None if inside else f"outside its image of {width} x {height} pixels by more than {margin}"


def require_instances(source: str, split: str, absent: Sequence[str], classes: int) -> None:
    """Refuse a split without any instance, and name classes that have none: their average precision is not defined.

    Args:
        source: where the annotations are from.
        split: which one it is.
        absent: classes without an instance that counts, neither crowd nor difficult.
        classes: number of all.

    Raises:
        ScfsError: no class has an instance.
    """
    if absent:
        number = f"{len(absent)} of the {classes} classes"
        found = f"{source}: split {split} has no instance of {number}, the first is {absent[0]!r} (crowds and difficult"
        if len(absent) == classes:
            raise ScfsError(f"{found} objects do not count)")
        log(f"warning: {found} objects do not count): they have no average precision on it")


def read_annotated_images(
    folder: Path, sizes: Mapping[str, tuple[int, int]], source: str, config: OwnImages
) -> pa.Table:
    """Open every image, in the order of their paths; others in the folder are ignored.

    Args:
        folder: where they are.
        sizes: (width, height) in pixels as annotated, by path within the folder.
        source: what names the images, for messages.
        config: which images are taken.

    Raises:
        ScfsError: no such folder; or images are missing, cannot be decoded, or have another size, neither as stored
            nor upright: how many, the first.
    """
    if not folder.is_dir():
        raise ScfsError(f"{folder}: no such folder")
    paths = sorted(sizes)
    require_files(folder, paths, f"images that {source} names")
    rows, _ = sound_rows(folder, paths, config)
    found = zip(*(rows[name].to_pylist() for name in ("path", "width", "height")))
    different = {path: stored for path, *stored in found if tuple(stored) != sizes[path]}
    upright = {path for path in different if upright_size(folder / path) == sizes[path]}
    if upright:
        log(f"{folder}: {len(upright)} images are annotated upright, as EXIF turns them, the first is {min(upright)}")
    others = [
        "{} ({} x {} pixels, annotated as {} x {} pixels)".format(path, *stored, *sizes[path])
        for path, stored in different.items()
        if path not in upright
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
