"""Oxford-IIIT Pet (Parkhi et al., 2012): 37 breeds of cats and dogs.

Archives: `images`, images.tar.gz (images/Abyssinian_1.jpg ...), and `annotations`, annotations.tar.gz, whose
trainval.txt and test.txt hold on a line an image's name, its class from 1, the species, and the breed within it. A
class is named as its images are.

The official archive holds 41 images that no list names, and three .mat files; they are passed over. Some images are GIF
or PNG files in spite of their names' ending.
"""

from collections.abc import Mapping
from pathlib import Path

from scfs.data.official.parsers.label_files import class_folders, number_within, read_label_files
from scfs.data.official.parsers.records import ImageLabel, Parsed, add_once, labelled
from scfs.errors import ScfsError

LISTS = {"train": "annotations/trainval.txt", "test": "annotations/test.txt"}
CLASSES = 37


def parse(archives: Mapping[str, Path]) -> Parsed:
    """Return the breeds, Abyssinian to yorkshire_terrier, and images of `train` (the authors' trainval) and `test`.

    Paths are `<class>/<file>`.

    Raises:
        ScfsError: a list is missing, a class has no number, two, or another's; an image appears twice in the lists, or
            is missing.
    """
    files = read_label_files(archives["annotations"], [*LISTS.values()])
    rows = [(split, *row) for split, file in LISTS.items() for row in files[file].rows(4)]
    names: dict[int, str] = {}
    entries: dict[str, ImageLabel] = {}
    for split, place, (image, number, _, _) in rows:
        label, name = number_within(number, 1, CLASSES, place) - 1, image.rpartition("_")[0]
        if names.setdefault(label, name) != name:
            raise ScfsError(f"{place}: class {label + 1} is {names[label]!r} in a line before")
        add_once(entries, f"images/{image}.jpg", (split, f"{name}/{image}.jpg", label), place)
    source = files[LISTS["train"]].source
    for label in range(len(names)):
        if label not in names:
            raise ScfsError(f"{source}: no image of class {label + 1}, but {len(names)} classes in all")
    classes = class_folders([names[label] for label in range(len(names))], source)
    return classes, labelled(archives["images"], entries, "images", unlabelled=True)
