"""FGVC-Aircraft (Maji et al., 2013): 100 variants of aircraft.

Archive `images`, fgvc-aircraft-2013b.tar.gz: data/images/<number>.jpg, names in data/variants.txt, and for each split
data/images_variant_<split>.txt with an image's number and its variant on a line.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from scfs.data.official.parsers.label_files import LabelFile, class_folders, read_label_files
from scfs.data.official.parsers.records import ImageLabel, Record, labelled
from scfs.errors import ScfsError

FOLDER = "fgvc-aircraft-2013b/data"
CLASSES = f"{FOLDER}/variants.txt"
LABELS = {split: f"{FOLDER}/images_variant_{split}.txt" for split in ("train", "val", "test")}


def classes(archives: Mapping[str, Path]) -> tuple[str, ...]:
    """List the names of the variants by label, 707-320 to Yak-42.

    Raises:
        ScfsError: variants.txt is missing or names one twice.
    """
    return _classes(read_label_files(archives["images"], [CLASSES])[CLASSES])


def records(archives: Mapping[str, Path]) -> Iterator[Record]:
    """Yield images of the splits `train`, `val` and `test`, in the archive's order, as `<variant>/<number>.jpg`.

    Raises:
        ScfsError: as `classes`; labels are missing, not a variant's or of an image twice; or an image is not labelled,
            or missing.
    """
    archive = archives["images"]
    files = read_label_files(archive, [CLASSES, *LABELS.values()])
    yield from labelled(archive, _entries(files), f"{FOLDER}/images")


def _classes(file: LabelFile) -> tuple[str, ...]:
    names = tuple(name for _, (name,) in file.rows(1))
    class_folders(names, file.source)
    return names


def _entries(files: Mapping[str, LabelFile]) -> dict[str, ImageLabel]:
    names = _classes(files[CLASSES])
    folders = class_folders(names, files[CLASSES].source)
    labels = {name: label for label, name in enumerate(names)}
    entries: dict[str, ImageLabel] = {}
    for split, file in LABELS.items():
        for number, (place, name) in files[file].table().items():
            member = f"{FOLDER}/images/{number}.jpg"
            if name not in labels:
                raise ScfsError(f"{place}: variant {name!r} is not among the {len(names)} of variants.txt")
            if member in entries:
                raise ScfsError(f"{place}: the image is also in split {entries[member].split}")
            entries[member] = ImageLabel(split, f"{folders[labels[name]]}/{number}.jpg", labels[name])
    return entries
