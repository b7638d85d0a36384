"""Splits with boxes and masks: images, and COCO JSON whose `file_name`s are the images' paths in the manifest.

Where the JSON is: beside the images for scenes; where the user has it for the source `coco`; made of
the devkit by `prepare` for the source `voc`, and made again when it is missing, as it is no stage's declared output.
Annotations of the source `coco` that had to be repaired are made again as well.
Of official archives: among the extracted files for COCO, as for the source `voc` for VOC.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scfs.config.scenes import SCENES
from scfs.data.image_set import ImageSet
from scfs.data.manifest import describe, load_with_table
from scfs.data.official import restore  # noqa: F401  # registers itself
from scfs.data.scenes import files  # noqa: F401
from scfs.data.sources import voc
from scfs.data.sources.coco_repair import repair_coco
from scfs.data.sources.registry import RESTORE
from scfs.errors import ScfsError, reading
from scfs.io.atomic import write_text
from scfs.io.locks import folder_lock
from scfs.io.progress import log
from scfs.io.results import sha256_of


def open_split(manifest: Path, split: str) -> ImageSet:
    """Load the images of one split; what their source can make again is made again first if it is missing.

    Raises:
        ScfsError: no manifest there, not a manifest, no such split, or the images are gone and cannot be remade.
    """
    images, table, about = load_with_table(manifest, split)
    if about["source"] in RESTORE:
        RESTORE[about["source"]](manifest, images, table, about)
    if not images.root.is_dir():
        raise ScfsError(f"{images.root}: folder of data set {images.name}, split {split}: not found")
    return images


@dataclass(frozen=True)
class DetectionFiles:
    """One split of a data set with annotations."""

    images: ImageSet
    annotations: Path
    """COCO JSON; `file_name` is relative to `images.root`. Objects that VOC calls difficult have `difficult: 1`."""
    digest: str
    """SHA-256 of the annotations."""


def open_detection_split(manifest: Path, split: str) -> DetectionFiles:
    """Open a split with its annotations, which `prepare` checked: they are still the same.

    Raises:
        ScfsError: see `open_split`; the data set has no annotations; or they are gone, or are not
            those that the manifest names.
    """
    images, about = open_split(manifest, split), describe(manifest)
    boxes = about["splits"][split].get("boxes")
    if boxes is None and about["source"] not in SCENES:
        raise ScfsError(f"data set {images.name}, split {split}: has no boxes: its source is {about['source']!r}")
    path = manifest.parent / (boxes["file"] if boxes else voc.json_file(split))
    if boxes and boxes["file"] == voc.json_file(split) and not path.is_file():
        _make_again(path, images, manifest, boxes)
    with reading(f"{path}: annotations"):
        digest = sha256_of(path)
    if boxes and digest != boxes["sha256"]:
        raise _other_error(f"{path}: not", manifest)
    return DetectionFiles(images, path, digest)


def _make_again(path: Path, images: ImageSet, manifest: Path, boxes: Mapping[str, Any]) -> None:
    """Repair or convert a split's annotations again; of several processes that ask at once, one does it.

    Raises:
        ScfsError: it would be another one, or the devkit's files are gone.
    """
    with folder_lock(path.parent):
        if path.is_file():
            return
        log(f"{path}: missing, making it as for {manifest}")
        if repaired := boxes.get("repaired"):
            text, _ = repair_coco(Path(repaired))
        else:
            found = voc.read_annotations(images.root, images.paths, boxes.get("origin", voc.VOC_ORIGIN))
            text = voc.converted(images.name, images.split, images.classes, found)
        if hashlib.sha256(text.encode()).hexdigest() != boxes["sha256"]:
            raise _other_error(f"{path}: made anew from {repaired or images.root}, it would not be", manifest)
        write_text(path, text)


def _other_error(what: str, manifest: Path) -> ScfsError:
    return ScfsError(f"{what} the file whose SHA-256 {manifest} has: run `scfs prepare {manifest.parent.name}` again")
