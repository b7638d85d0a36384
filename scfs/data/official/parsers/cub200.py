"""CUB-200-2011 (Wah et al., 2011): 200 species of birds.

Archive `images`, CUB_200_2011.tgz, as its README describes it: images/<class>/<file>, and texts of two columns by id:
images.txt (path), image_class_labels.txt (class id), train_test_split.txt (1: train, 0: test), classes.txt (name).
"""

from collections.abc import Mapping
from pathlib import Path

from scfs.data.official.parsers.label_files import LabelFile, class_folders, number_within, read_label_files
from scfs.data.official.parsers.records import ImageLabel, Parsed, add_once, labelled
from scfs.errors import ScfsError

FOLDER = "CUB_200_2011"
CLASSES = f"{FOLDER}/classes.txt"
PATHS = f"{FOLDER}/images.txt"
LABELS = f"{FOLDER}/image_class_labels.txt"
SPLITS = f"{FOLDER}/train_test_split.txt"


def parse(archives: Mapping[str, Path]) -> Parsed:
    """Return the names, 001.Black_footed_Albatross ..., which are also folders, and images of `train` and `test`.

    Paths are `<class>/<file>`.

    Raises:
        ScfsError: classes.txt is missing, or does not number different classes from 1; another text is missing, does
            not label all images once or has a label that is none; or an image is not labelled, or missing.
    """
    archive = archives["images"]
    files = read_label_files(archive, [CLASSES, PATHS, LABELS, SPLITS])
    names = _classes(files[CLASSES])
    return names, labelled(archive, _entries(files, names), f"{FOLDER}/images")


def _classes(file: LabelFile) -> tuple[str, ...]:
    table = file.table()
    for number, (key, (place, _)) in enumerate(table.items(), start=1):
        if key != str(number):
            raise ScfsError(f"{place}: class id {key!r}: {number} is expected")
    names = tuple(name for _, name in table.values())
    if class_folders(names, file.source) != names:
        raise ScfsError(f"{file.source}: names of classes are folders, and cannot hold a slash")
    return names


def _entries(files: Mapping[str, LabelFile], names: tuple[str, ...]) -> dict[str, ImageLabel]:
    paths, labels, splits = (files[name].table() for name in (PATHS, LABELS, SPLITS))
    for name, table in ((LABELS, labels), (SPLITS, splits)):
        different = sorted(table.keys() ^ paths.keys())
        if different:
            raise ScfsError(f"{files[name].source}: image id {different[0]!r} is not in both it and images.txt")
    entries: dict[str, ImageLabel] = {}
    for key, (place, path) in paths.items():
        label = number_within(labels[key][1], 1, len(names), labels[key][0]) - 1
        in_train = number_within(splits[key][1], 0, 1, splits[key][0])
        if path.partition("/")[0] != names[label]:
            raise ScfsError(f"{place}: lies not in the folder of its class, {names[label]}")
        add_once(entries, f"{FOLDER}/images/{path}", ("train" if in_train else "test", path, label), place)
    return entries
