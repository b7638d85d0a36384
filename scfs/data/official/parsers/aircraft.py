"""FGVC-Aircraft (Maji et al., 2013): 100 variants of aircraft.

Archive `images`, fgvc-aircraft-2013b.tar.gz: data/images/<number>.jpg, names in data/variants.txt, and for each split
data/images_variant_<split>.txt with an image's number and its variant on a line.
"""

from collections.abc import Mapping
from pathlib import Path

from scfs.data.official.parsers.label_files import class_folders, read_label_files
from scfs.data.official.parsers.records import ImageLabel, Parsed, add_once, labelled
from scfs.errors import ScfsError

FOLDER = "fgvc-aircraft-2013b/data"
CLASSES = f"{FOLDER}/variants.txt"
LABELS = {split: f"{FOLDER}/images_variant_{split}.txt" for split in ("train", "val", "test")}


def parse(archives: Mapping[str, Path]) -> Parsed:
    """Return the variants, 707-320 to Yak-42, and images of `train`, `val` and `test`, as `<variant>/<number>.jpg`.

    Raises:
        ScfsError: variants.txt is missing or names one twice; labels are missing, not a variant's or of an image twice;
            or an image is not labelled, or missing.
    """
    archive = archives["images"]
    files = read_label_files(archive, [CLASSES, *LABELS.values()])
    names = files[CLASSES].names()
    folders = class_folders(names, files[CLASSES].source)
    labels = {name: label for label, name in enumerate(names)}
    entries: dict[str, ImageLabel] = {}
    for split, file in LABELS.items():
        for number, (place, name) in files[file].table().items():
            if name not in labels:
                raise ScfsError(f"{place}: variant {name!r} is not among the {len(names)} of variants.txt")
            entry = split, f"{folders[labels[name]]}/{number}.jpg", labels[name]
            add_once(entries, f"{FOLDER}/images/{number}.jpg", entry, place)
    return names, labelled(archive, entries, f"{FOLDER}/images")
