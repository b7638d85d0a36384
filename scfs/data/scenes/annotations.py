"""COCO JSON of the garment scenes (cocodataset.org, "Data format": object detection).

An image's `file_name` is its path in the manifest; categories have the ids 1 ... n in the order of the classes.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scfs.data.coco_rle import encode_mask
from scfs.data.scenes.compose import SceneObject
from scfs.io.atomic import write_text


class Annotations:
    """COCO JSON of one split, gathered image by image."""

    def __init__(self, description: str, classes: Sequence[str]) -> None:
        self._images: list[dict[str, Any]] = []
        self._objects: list[dict[str, Any]] = []
        self._head = {
            "info": {"description": description},
            "licenses": [],
            "categories": [{"id": number, "name": name} for number, name in enumerate(classes, start=1)],
        }

    def add(self, path: str, shape: tuple[int, int], objects: Sequence[SceneObject]) -> None:
        """Append an image of `shape` (height, width) and its objects; one that is wholly hidden is left out."""
        image_id = len(self._images) + 1
        self._images.append({"id": image_id, "file_name": path, "width": shape[1], "height": shape[0]})
        for item in objects:
            if item.mask.any():
                ids = {"id": len(self._objects) + 1, "image_id": image_id, "category_id": item.label + 1}
                self._objects.append({**ids, "iscrowd": 0, **_geometry(item.mask)})

    def write(self, path: Path) -> None:
        """Write the file; equal content gives equal bytes."""
        content = {**self._head, "images": self._images, "annotations": self._objects}
        write_text(path, json.dumps(content, separators=(",", ":"), sort_keys=True) + "\n")


def _geometry(mask: np.ndarray) -> dict[str, Any]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    return {
        "bbox": [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
        "area": int(mask.sum()),
        "segmentation": encode_mask(mask),
    }
