"""Oxford-IIIT Pet (Parkhi et al., 2012): 37 breeds of cats and dogs.

Archives: `images`, images.tar.gz (images/Abyssinian_1.jpg ...), and `annotations`, annotations.tar.gz, whose
trainval.txt and test.txt hold on a line an image's name, its class from 1, the species, and the breed within it. A
class is named as its images are.

The official archive holds 41 images that no list names, and three .mat files; they are passed over. Some images are GIF
or PNG files in spite of their names' ending.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from scfs.data.official.parsers.label_files import LabelFile, class_folders, number_within, read_label_files
from scfs.data.official.parsers.records import ImageLabel, Record, labelled
from scfs.errors import ScfsError

LISTS = {"train": "annotations/trainval.txt", "test": "annotations/test.txt"}
CLASSES = 37


def classes(archives: Mapping[str, Path]) -> tuple[str, ...]:
    """List the names by label, Abyssinian to yorkshire_terrier.

    Raises:
        ScfsError: a list is missing, or a class has no number, two, or another's.
    """
    return _classes(read_label_files(archives["annotations"], [*LISTS.values()]))


def records(archives: Mapping[str, Path]) -> Iterator[Record]:
    """Yield images of the splits `train` (the authors' trainval) and `test`, in order, as `<class>/<file>`.

    Raises:
        ScfsError: as `classes`; an image appears twice in the lists, or is missing.
    """
    files = read_label_files(archives["annotations"], [*LISTS.values()])
    names = _classes(files)
    entries: dict[str, ImageLabel] = {}
    for split, file in LISTS.items():
        for place, image, label in _rows(files[file]):
            member = f"images/{image}.jpg"
            if member in entries:
                raise ScfsError(f"{place}: the image appears twice")
            entries[member] = ImageLabel(split, f"{names[label]}/{image}.jpg", label)
    yield from labelled(archives["images"], entries, "images", unlabelled=True)


def _rows(file: LabelFile) -> Iterator[tuple[str, str, int]]:
    """Yield the place, image and label of each line."""
    for place, (image, number, _, _) in file.rows(4):
        yield place, image, number_within(number, 1, CLASSES, place) - 1


def _classes(files: Mapping[str, LabelFile]) -> tuple[str, ...]:
    """Take the names by label from the images' names."""
    names: dict[int, str] = {}
    for file in LISTS.values():
        for place, image, label in _rows(files[file]):
            name = image.rpartition("_")[0]
            if names.setdefault(label, name) != name:
                raise ScfsError(f"{place}: class {label + 1} is {names[label]!r} in a line before")
    source = files[LISTS["train"]].source
    for label in range(len(names)):
        if label not in names:
            raise ScfsError(f"{source}: no image of class {label + 1}, but {len(names)} classes in all")
    return class_folders(tuple(names[label] for label in range(len(names))), source)
