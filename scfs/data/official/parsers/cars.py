"""Stanford Cars (Krause et al., 2013): 196 makes and models, and years.

Archives: `train`, cars_train.tgz, and `test`, cars_test.tgz (cars_train/00001.jpg ...); `devkit`, car_devkit.tgz (names
in cars_meta.mat, labels of the train images in cars_train_annos.mat); `test_labels`, cars_test_annos_withlabels.mat,
which is not packed. As in the devkit's README, `annotations` has fields `fname` and `class`, which counts from 1.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from scfs.data.official.parsers.label_files import LabelFile, class_folders, number_within, read_label_files
from scfs.data.official.parsers.mat_files import read_names, read_structs
from scfs.data.official.parsers.records import ImageLabel, Parsed, Record, add_once, labelled
from scfs.errors import ScfsError, reading

META = "devkit/cars_meta.mat"
TRAIN_LABELS = "devkit/cars_train_annos.mat"


def parse(archives: Mapping[str, Path]) -> Parsed:
    """Return the names, AM General Hummer SUV 2000 to smart fortwo Convertible 2012, and images of `train` and `test`.

    Paths are `<class>/<file>`.

    Raises:
        ScfsError: cars_meta.mat is missing or not as expected; labels are missing, not a class's or of an image twice;
            or an image is not labelled, or missing.
    """
    files = read_label_files(archives["devkit"], [META, TRAIN_LABELS])
    names = read_names(files[META], "class_names")
    folders = class_folders(names, files[META].source)

    def records() -> Iterator[Record]:
        for split, file in (("train", files[TRAIN_LABELS]), ("test", _bare(archives["test_labels"]))):
            yield from labelled(archives[split], _entries(file, split, folders), f"cars_{split}")

    return names, records()


def _bare(path: Path) -> LabelFile:
    with reading(path):
        return LabelFile(str(path), path.read_bytes())


def _entries(file: LabelFile, split: str, folders: tuple[str, ...]) -> dict[str, ImageLabel]:
    entries: dict[str, ImageLabel] = {}
    for place, annotation in read_structs(file, "annotations", ("fname", "class")):
        name = annotation["fname"]
        if not isinstance(name, str) or not name or "/" in name:
            raise ScfsError(f"{place}: fname {name!r} is not the name of a file")
        label = number_within(annotation["class"], 1, len(folders), place) - 1
        add_once(entries, f"cars_{split}/{name}", (split, f"{folders[label]}/{name}", label), place)
    return entries
