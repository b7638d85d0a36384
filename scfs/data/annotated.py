"""Splits with boxes and masks: images, and COCO JSON whose `file_name`s are the images' paths in the manifest."""

from dataclasses import dataclass
from pathlib import Path

from scfs.data.images import ImageSet
from scfs.data.manifest import open_split
from scfs.errors import ScfsError
from scfs.results import sha256_of


@dataclass(frozen=True)
class AnnotatedSplit:
    """One split of a data set with annotations."""

    images: ImageSet
    annotations: Path
    """COCO JSON; `file_name` is relative to `images.root`. Objects that VOC calls difficult have `difficult: 1`."""
    digest: str
    """SHA-256 of the annotations."""


def open_annotated(manifest: Path, split: str) -> AnnotatedSplit:
    """Open a split with its annotations.

    Raises:
        ScfsError: see `scfs.data.manifest.open_split`; or the data set has no annotations.
    """
    images = open_split(manifest, split)
    annotations = manifest.parent / "annotations" / f"{split}.json"
    if not annotations.is_file():
        raise ScfsError(f"data set {images.name}, split {split}: has no boxes: {annotations} is missing")
    return AnnotatedSplit(images, annotations, sha256_of(annotations))
