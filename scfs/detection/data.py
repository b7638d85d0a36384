"""A split with boxes as Detectron2's "dataset dicts" (its documentation, "Use Custom Datasets")."""

import scfs.detection.compat  # isort: skip  # noqa: F401

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detectron2.data import MetadataCatalog, detection_utils
from detectron2.data.datasets import load_coco_json

from scfs.data.opening import DetectionFiles
from scfs.errors import ScfsError, refusing

Record = dict[str, Any]
"""An image as Detectron2 describes it: file_name, height, width, image_id, annotations."""


@contextmanager
def read_as_annotated(record: Record) -> Iterator[None]:
    """Let Detectron2 read an image in the block as it was annotated: it would turn it as EXIF says in any case."""
    turn, size = detection_utils._apply_exif_orientation, (record["width"], record["height"])
    detection_utils._apply_exif_orientation = lambda image: upright if (upright := turn(image)).size == size else image
    try:
        yield
    finally:
        detection_utils._apply_exif_orientation = turn


@dataclass(frozen=True)
class DetectionSplit:
    """A split as Detectron2 reads it."""

    name: str
    """Its name in Detectron2's MetadataCatalog, where its evaluators look for classes and annotations."""
    source: str
    """Its name in messages."""
    records: list[Record]
    """Images in the order of their ids; categories are numbered from 0 in the order of their ids."""
    classes: tuple[str, ...]
    """Names of the categories."""

    @property
    def objects(self) -> list[Record]:
        """Annotations of all images that are not crowds."""
        return [item for record in self.records for item in record["annotations"] if not item.get("iscrowd", 0)]

    @property
    def mask_format(self) -> str:
        """Detectron2's INPUT.MASK_FORMAT: polygons where all masks are, else bitmaps."""
        return "polygon" if all(isinstance(item.get("segmentation", []), list) for item in self.objects) else "bitmask"


def read_split(split: DetectionFiles, masks: bool) -> DetectionSplit:
    """Read images and objects of a split.

    Args:
        split: the split.
        masks: True if every object must have a mask.

    Raises:
        ScfsError: not COCO JSON that Detectron2 reads, no object in it that is not a crowd, or one without a mask.
    """
    name = f"scfs-coco-json:{split.images.name}:{split.images.split}:{split.annotations.resolve()}:{split.digest}"
    problems = AssertionError, AttributeError, KeyError, TypeError, ValueError
    with refusing(f"{split.annotations}: not COCO JSON with boxes", *problems):
        records = load_coco_json(str(split.annotations), str(split.images.root), name, ["difficult"])
    metadata = MetadataCatalog.get(name).set(json_file=str(split.annotations))
    source = f"data set {split.images.name}, split {split.images.split}"
    found = DetectionSplit(name, source, records, tuple(metadata.thing_classes))
    if not found.objects:
        raise ScfsError(f"{source}: has no object in any of its {len(records)} images")
    for record in records if masks else ():
        if any("segmentation" not in item and not item.get("iscrowd", 0) for item in record["annotations"]):
            raise ScfsError(
                f"{source}: {Path(record['file_name']).name}: an object has no mask: the recipe needs one for each; use"
                " one that finds boxes alone, such as voc_faster_rcnn_c4"
            )
    return found
