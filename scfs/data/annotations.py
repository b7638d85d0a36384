"""Boxes and masks as COCO JSON (cocodataset.org, "Data format": object detection); masks are uncompressed RLE.

An image's `file_name` is its path in the manifest; categories have the ids 1 ... n in the order of the classes.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scfs.atomic import write_text
from scfs.data.scenes import SceneObject
from scfs.errors import ScfsError


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


def encode_mask(mask: np.ndarray) -> dict[str, list[int]]:
    """Run lengths of a bool mask (H, W), column by column, background first."""
    flat = np.concatenate([[False], mask.ravel(order="F"), [False]])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate([[0], changes, [mask.size]]))
    if counts[-1] == 0:
        counts = counts[:-1]
    return {"size": list(mask.shape), "counts": counts.tolist()}


def decode_mask(rle: dict[str, list[int]]) -> np.ndarray:
    """Mask (H, W) bool of an uncompressed RLE."""
    height, width = rle["size"]
    values = np.arange(len(rle["counts"])) % 2 == 1
    return np.repeat(values, rle["counts"]).reshape(width, height).T.copy()


def load_masks(annotations: Path) -> dict[str, np.ndarray]:
    """Where the objects of each image are.

    Returns:
        Bool mask (H, W) by path in the manifest: the image's object, or all of them together where it has several.
        Nothing where the file has boxes alone.

    Raises:
        ScfsError: the file is missing, is not COCO JSON, or its masks are not uncompressed RLE.
    """
    try:
        content = json.loads(annotations.read_text())
        images = {image["id"]: image for image in content["images"]}
        if content["annotations"] and not any("segmentation" in item for item in content["annotations"]):
            return {}
        masks = {image["file_name"]: np.zeros((image["height"], image["width"]), bool) for image in images.values()}
        for item in content["annotations"]:
            masks[images[item["image_id"]]["file_name"]] |= decode_mask(item["segmentation"])
    except OSError as error:
        raise ScfsError(f"{annotations}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ScfsError(f"{annotations}: not COCO JSON with masks as uncompressed RLE ({error!r})") from None
    return masks
