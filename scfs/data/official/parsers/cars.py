"""Stanford Cars (Krause et al., 2013): 196 makes and models, and years.

Archives: `train`, cars_train.tgz, and `test`, cars_test.tgz (cars_train/00001.jpg ...); `devkit`, car_devkit.tgz (names
in cars_meta.mat, labels of the train images in cars_train_annos.mat); `test_labels`, cars_test_annos_withlabels.mat,
which is not packed. As in the devkit's README, `annotations` has fields `fname` and `class`, which counts from 1.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from scfs.data.official.parsers.label_files import LabelFile, class_folders, read_label_files
from scfs.data.official.parsers.mat_files import read_names, read_structs, whole_number
from scfs.data.official.parsers.records import ImageLabel, Record, labelled
from scfs.errors import ScfsError

META = "devkit/cars_meta.mat"
TRAIN_LABELS = "devkit/cars_train_annos.mat"


def classes(archives: Mapping[str, Path]) -> tuple[str, ...]:
    """List the names by label, AM General Hummer SUV 2000 to smart fortwo Convertible 2012.

    Raises:
        ScfsError: cars_meta.mat is missing or not as expected.
    """
    return _classes(read_label_files(archives["devkit"], [META])[META])


def records(archives: Mapping[str, Path]) -> Iterator[Record]:
    """Yield images of the splits `train` and `test`, in the archives' order, as `<class>/<file>`.

    Raises:
        ScfsError: as `classes`; labels are missing, not a class's or of an image twice; or an image is not labelled, or
            missing.
    """
    files = read_label_files(archives["devkit"], [META, TRAIN_LABELS])
    folders = class_folders(_classes(files[META]), files[META].source)
    for split, file in (("train", files[TRAIN_LABELS]), ("test", _bare(archives["test_labels"]))):
        yield from labelled(archives[split], _entries(file, split, folders), f"cars_{split}")


def _classes(file: LabelFile) -> tuple[str, ...]:
    names = read_names(file, "class_names")
    class_folders(names, file.source)
    return names


def _bare(path: Path) -> LabelFile:
    try:
        return LabelFile(str(path), path.read_bytes())
    except OSError as error:
        raise ScfsError(f"{path}: cannot be read: {error.strerror}") from None


def _entries(file: LabelFile, split: str, folders: tuple[str, ...]) -> dict[str, ImageLabel]:
    entries: dict[str, ImageLabel] = {}
    for place, annotation in read_structs(file, "annotations", ("fname", "class")):
        name = annotation["fname"]
        if not isinstance(name, str) or not name or "/" in name:
            raise ScfsError(f"{place}: fname {name!r} is not the name of a file")
        label = whole_number(annotation["class"], 1, len(folders), place) - 1
        member = f"cars_{split}/{name}"
        if member in entries:
            raise ScfsError(f"{place}: {name} appears twice")
        entries[member] = ImageLabel(split, f"{folders[label]}/{name}", label)
    return entries
