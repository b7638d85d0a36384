"""The source `voc`: images with boxes in VOC devkits, whose annotations are converted to COCO JSON.

A devkit is the folder that holds ImageSets, Annotations and JPEGImages. Paths of images are relative to the folder that
all devkits of a data set have in common, as in VOC2007/JPEGImages/000005.jpg.
"""

import hashlib
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

from scfs.config.data import Coco, Voc
from scfs.data.coco_writer import coco_text
from scfs.data.manifest import MANIFEST, BoxFile, ManifestSplit, write_manifest
from scfs.data.sources.box_checks import read_annotated_images, require_files, require_instances
from scfs.data.sources.folders import ENDINGS
from scfs.data.sources.registry import PREPARE
from scfs.data.sources.voc_xml import VOC_ORIGIN, Origin, VocAnnotation, VocObject, read_annotation
from scfs.errors import ScfsError, refusing
from scfs.io.atomic import write_text
from scfs.io.locks import folder_lock
from scfs.io.progress import log, track

IMAGES, ANNOTATIONS = "JPEGImages", "Annotations"


@PREPARE.add("voc")
def prepare_voc(name: str, config: Voc, folder: Path) -> None:
    """Check the devkits, convert their annotations to annotations/<split>.json, and write the manifest.

    Raises:
        ScfsError: see `read_voc`.
    """
    write_annotated(folder, name, config, *read_voc(name, config))


def write_annotated(
    folder: Path, name: str, config: Coco | Voc, listed: Sequence[ManifestSplit], texts: Mapping[str, str]
) -> None:
    """Write texts of annotations, by path within a data set's folder, and the manifest of its splits."""
    with folder_lock(folder / "annotations"):  # against those that make missing ones again
        for file, text in texts.items():
            write_text(folder / file, text)
        write_manifest(folder / MANIFEST, name, config, listed)


def read_voc(name: str, config: Voc) -> tuple[list[ManifestSplit], dict[str, str]]:
    """Check the devkits of data set `name`, and convert their annotations.

    Returns:
        Splits, and the text of the COCO JSON of each by path within the prepared data set's folder.

    Raises:
        ScfsError: see `list_images`, `read_annotations`, `class_names`, and `read_annotated_images` of box_checks.
    """
    root, paths = list_images(config)
    annotations = {split: read_annotations(root, names) for split, names in paths.items()}
    if (origin := origin_of(annotations.values())) != VOC_ORIGIN:
        ends = "last pixel" if origin[1] else "edge"
        log(f"warning: {root}: boxes begin at 0, not at 1 as VOC's: read so in the whole set, to their {ends}")
        annotations = {split: read_annotations(root, names, origin) for split, names in paths.items()}
    classes = class_names(config.classes, root, annotations)
    listed, texts = [], {}
    for split, found in annotations.items():
        file = json_file(split)
        text = texts[file] = converted(name, split, classes, found)
        boxes = BoxFile(file, hashlib.sha256(text.encode()).hexdigest(), origin=origin)
        sizes = {path: (one.width, one.height) for path, one in found.items()}
        rows = read_annotated_images(root, sizes, "its annotations", config)
        listed.append(ManifestSplit(split, str(root), rows, tuple(classes), boxes=boxes))
    return listed, texts


def list_images(config: Voc) -> tuple[Path, dict[str, list[str]]]:
    """Return the common folder, and by split the sorted paths of the images that its lists name.

    Raises:
        ScfsError: a list is missing, lies elsewhere than in a devkit or is no list of names; a split has no image, or
            one twice.
    """
    devkits = {file: _devkit(Path(file)) for files in config.splits.values() for file in files}
    for split, files in config.splits.items():
        if not files:
            raise ScfsError(f"split {split}: names no lists of images")
    root = Path(os.path.commonpath(devkits.values()))
    found: dict[str, list[str]] = {}
    for split, files in config.splits.items():
        below = {file: (devkits[file] / IMAGES).relative_to(root) for file in files}
        there = {folder: {path.name for path in (root / folder).iterdir()} for folder in below.values()}
        named = ((below[file], name) for file in files for name in _names(Path(file)))
        paths = sorted((folder / _image_file(name, there[folder])).as_posix() for folder, name in named)
        twice = [path for path, following in pairwise(paths) if path == following]
        if twice:
            raise ScfsError(f"{files[-1]}: split {split} names {len(twice)} images twice, the first is {twice[0]}")
        found[split] = paths
    return root, found


def _devkit(file: Path) -> Path:
    """Return the devkit's folder that a list belongs to; links that lead to it are followed, but not the list's own."""
    if not file.is_file():
        raise ScfsError(f"{file}: no such list of images")
    place = file.absolute().parent
    devkit = place.parent.parent.resolve()
    lacking = [name for name in (ANNOTATIONS, IMAGES) if not (devkit / name).is_dir()]
    if place.parent.name != "ImageSets" or lacking:
        found = f"{devkit}: no folder {lacking[0]}" if place.parent.name == "ImageSets" else f"{file}: not in a devkit"
        raise ScfsError(
            f"{found}: a list within a devkit's ImageSets is expected: DEVKIT/ImageSets/Main/{file.name} (names), "
            f"DEVKIT/{ANNOTATIONS}/NAME.xml, DEVKIT/{IMAGES}/NAME.jpg (links to folders of other names will do)"
        )
    return devkit


def _image_file(name: str, there: Collection[str]) -> str:
    """Return the first file that is there of an image that a list names with its ending or without."""
    whole = name.lower().endswith(ENDINGS)
    stem = PurePosixPath(name).stem if whole else name
    spelled = [stem + spelling for ending in ENDINGS for spelling in (ending, ending.upper())]
    return next((file for file in [name] * whole + spelled if file in there), f"{stem}.jpg")


def _names(file: Path) -> list[str]:
    with refusing(f"{file}: cannot be read", OSError, UnicodeDecodeError):
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    for number, line in enumerate(lines, start=1):
        if len(line.split()) > 1 or "/" in line:
            raise ScfsError(f"{file}: line {number} = {line!r}: the name of one image is expected, without a folder")
    names = [line for line in lines if line]
    if not names:
        raise ScfsError(f"{file}: names no images")
    return names


def read_annotations(root: Path, paths: Sequence[str], origin: Origin = VOC_ORIGIN) -> dict[str, VocAnnotation]:
    """Read the annotations of images, by path and in their order.

    Raises:
        ScfsError: files are missing, or see `scfs.data.sources.voc_xml.read_annotation`.
    """
    files = {path: annotation_file(path) for path in paths}
    require_files(root, list(files.values()), "annotations")
    tracked = track(files.items(), f"{root}", "annotations", len(files))
    return {path: read_annotation(root / file, root / path, origin) for path, file in tracked}


def origin_of(splits: Iterable[Mapping[str, VocAnnotation]]) -> Origin:
    """Find out where the coordinates of a whole set begin: at 1 as VOC's, unless a box begins at 0 and all would fit.

    Where boxes end before the last pixel, pixels are counted; where one ends there, coordinates are those of edges.

    Args:
        splits: annotations as they are read by VOC's rule.
    """
    annotations = [annotation for split in splits for annotation in split.values()]
    boxes = [(item.box, one.width, one.height) for one in annotations for item in one.objects]
    before = min((min(box[:2]) for box, *_ in boxes), default=0)
    behind = min((side - box[k] - box[k + 2] for box, *sides in boxes for k, side in enumerate(sides)), default=0)
    return (0, int(behind >= 1)) if before < 0 <= behind else VOC_ORIGIN


def annotation_file(path: str) -> str:
    """Name the file with the annotations of the image at `path`."""
    devkit, _, name = path.rpartition(f"{IMAGES}/")
    return f"{devkit}{ANNOTATIONS}/{PurePosixPath(name).stem}.xml"


def class_names(wanted: Sequence[str], root: Path, splits: Mapping[str, Mapping[str, VocAnnotation]]) -> list[str]:
    """Return the classes in order: the wanted ones; if none are, all that the annotations name, sorted.

    Raises:
        ScfsError: there are none, one is wanted twice, an object has another one, or a split has no instance of one.
    """
    seen = {item.name for split in splits.values() for annotation in split.values() for item in annotation.objects}
    classes = list(wanted) or sorted(seen)
    if not classes:
        raise ScfsError(f"{root}: no annotation has an object")
    if len(set(classes)) < len(classes):
        raise ScfsError(f"classes = {classes}: one appears twice")
    if not seen <= set(classes):
        for path, annotation in (pair for split in splits.values() for pair in split.items()):
            for name in (item.name for item in annotation.objects if item.name not in classes):
                raise ScfsError(f"{root / annotation_file(path)}: class {name!r}: not among {classes}")
    for split, annotations in splits.items():
        counted = {item.name for one in annotations.values() for item in one.objects if not item.difficult}
        absent = [name for name in classes if name not in counted]
        require_instances(f"{root}", split, absent, len(classes))
    return classes


def json_file(split: str) -> str:
    """Name the file of the converted annotations within a prepared data set's folder."""
    return f"annotations/{split}.json"


def converted(name: str, split: str, classes: Sequence[str], annotations: Mapping[str, VocAnnotation]) -> str:
    """Write the COCO JSON of a split of data set `name` as text.

    Every object has `difficult` (0 or 1), none has a mask; `area` is the box's.
    """
    category = {item: number for number, item in enumerate(classes, start=1)}
    images = (
        (path, found.width, found.height, [_coco_object(item, category[item.name]) for item in found.objects])
        for path, found in annotations.items()
    )
    return coco_text(f"{name}, split {split}: converted from VOC", classes, images)


def _coco_object(item: VocObject, category: int) -> dict[str, Any]:
    area = item.box[2] * item.box[3]
    return {"category_id": category, "bbox": item.box, "area": area, "iscrowd": 0, "difficult": int(item.difficult)}
