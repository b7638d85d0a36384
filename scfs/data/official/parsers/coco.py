"""COCO 2017 (Lin et al., 2014): the files that the source `coco` reads.

Archives: `train`, train2017.zip, and `val`, val2017.zip (train2017/000000000009.jpg ...); `annotations`,
annotations_trainval2017.zip, of which only the instances are taken: not captions and not keypoints.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from scfs.data.archives.members import Member, members
from scfs.errors import ScfsError

INSTANCES = {split: f"annotations/instances_{split}2017.json" for split in ("train", "val")}


def extracted(archives: Mapping[str, Path]) -> Iterator[tuple[str, Member]]:
    """Yield files to extract, as path below the data set's folder and member; annotations first.

    Raises:
        ScfsError: annotations are missing, an archive has other files than images of its split, or none.
    """
    archive, left = archives["annotations"], set(INSTANCES.values())
    for member in members(archive):
        if member.name in left:
            left.discard(member.name)
            yield member.name, member
    if left:
        raise ScfsError(f"{archive}: no file {min(left)} in it: the layout is not the official archive's")
    for split in INSTANCES:
        yield from _images(archives[split], split)


def _images(archive: Path, split: str) -> Iterator[tuple[str, Member]]:
    name = re.compile(rf"{split}2017/\d{{12}}\.jpg")
    empty = True
    for member in members(archive):
        if not name.fullmatch(member.name):
            raise ScfsError(f"{archive}: {member.name}: not an image of {split}2017, such as {split}2017/{9:012d}.jpg")
        empty = False
        yield member.name, member
    if empty:
        raise ScfsError(f"{archive}: no images in it")
