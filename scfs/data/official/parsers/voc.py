"""PASCAL VOC 2007 and 2012 (Everingham et al., 2010): the files of the devkits that the source `voc` reads.

Archives: `trainval2007`, VOCtrainval_06-Nov-2007.tar; `test2007`, VOCtest_06-Nov-2007.tar; `trainval2012`,
VOCtrainval_11-May-2012.tar. Taken are annotations, images and the lists of the main task; not segmentations, nor the
lists of other tasks. Images that no list of the main task names are taken too: other years' segmentation, actions.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from scfs.data.archives.members import Member, members
from scfs.data.official.parsers.label_files import read_label_files
from scfs.errors import ScfsError

LISTS = {
    "trainval2007": "VOCdevkit/VOC2007/ImageSets/Main/trainval.txt",
    "test2007": "VOCdevkit/VOC2007/ImageSets/Main/test.txt",
    "trainval2012": "VOCdevkit/VOC2012/ImageSets/Main/trainval.txt",
}
"""List of images of each archive's split."""
FOLDERS = {"Annotations": ".xml", "ImageSets/Main": ".txt", "JPEGImages": ".jpg"}
"""Folders of a devkit that are taken, and the ending of their files."""


def extracted(archives: Mapping[str, Path]) -> Iterator[tuple[str, Member]]:
    """Yield files to extract, as path below the data set's folder and member, in the archives' order.

    Raises:
        ScfsError: a list is missing, or an image that it names or its annotations; or two archives have the same
            image or annotations.
    """
    taken: set[str] = set()
    for role, file in LISTS.items():
        devkit = file.partition("/ImageSets/")[0]
        wanted = _named(archives[role], file, devkit)
        left = set(wanted)
        for member in members(archives[role]):
            if _belongs(member.name, devkit):
                if member.name in taken:
                    if member.name.startswith(f"{devkit}/ImageSets/"):
                        continue  # each archive may bring all lists of its devkit
                    raise ScfsError(f"{archives[role]}: {member.name}: an archive before has this file, too")
                taken.add(member.name)
                left.discard(member.name)
                yield member.name, member
        if left:
            number = f"{len(left)} of the {len(wanted)} images and annotations that {file} names"
            raise ScfsError(f"{archives[role]}: {number} are missing, the first is {min(left)}")


def _named(archive: Path, file: str, devkit: str) -> set[str]:
    """Return the paths of the images that a list names, and of their annotations."""
    rows = read_label_files(archive, [file])[file].rows(1)
    return {
        path for _, (name,) in rows for path in (f"{devkit}/Annotations/{name}.xml", f"{devkit}/JPEGImages/{name}.jpg")
    }


def _belongs(name: str, devkit: str) -> bool:
    path = PurePosixPath(name)
    return any(
        path.parent == PurePosixPath(devkit, folder) and path.suffix == ending and not path.name.startswith(".")
        for folder, ending in FOLDERS.items()
    )
