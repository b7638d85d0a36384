"""Masks of COCO JSON (cocodataset.org, "Data format": object detection): run lengths and polygons."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from scfs.errors import reading, refusing


def encode_mask(mask: np.ndarray) -> dict[str, list[int]]:
    """Encode a bool mask (H, W) as run lengths, column by column, background first."""
    flat = np.concatenate([[False], mask.ravel(order="F")])
    counts = np.diff(np.flatnonzero(flat[1:] != flat[:-1]), prepend=0, append=mask.size)
    return {"size": list(mask.shape), "counts": counts.tolist()}


def decode_mask(rle: dict[str, list[int]]) -> np.ndarray:
    """Decode an uncompressed RLE to a bool mask (H, W)."""
    height, width = rle["size"]
    values = np.arange(len(rle["counts"])) % 2 == 1
    return np.repeat(values, rle["counts"]).reshape(width, height).T.copy()


def decode_counts(text: str) -> list[int]:
    """Decode COCO's compressed run lengths (cocoapi, maskApi.c, `rleFrString`).

    Each is written in groups of five bits, the least first, and from the fourth on as the difference to the one before
    the last.

    Raises:
        ValueError: the text is not of this kind.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not (0 <= bits < 64 and shift < 35):
            raise ValueError(f"{character!r} does not belong to compressed run lengths")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:  # the last group, whose highest bit is the sign
            value -= (bits & 16) << (shift - 4)
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value = shift = 0
    if shift:
        raise ValueError("they are cut off")
    return counts


def decode_segmentation(segmentation: Any, height: int, width: int) -> np.ndarray:
    """Decode an object's polygons or run lengths, compressed or not, to a bool mask (H, W).

    Raises:
        Exception: it is none of them.
    """
    if isinstance(segmentation, list):
        from pycocotools import mask

        return np.asarray(mask.decode(mask.merge(mask.frPyObjects(segmentation, height, width))), bool)
    counts = segmentation["counts"]
    # Not by pycocotools, which reads beyond text that is cut off.
    return decode_mask({**segmentation, "counts": decode_counts(counts) if isinstance(counts, str) else counts})


def load_masks(annotations: Path) -> dict[str, np.ndarray]:
    """Load the masks of the objects of each image.

    Returns:
        Bool mask (H, W) by path in the manifest: the image's object, or all of them together where it has several.
        Nothing where the file has boxes alone.

    Raises:
        ScfsError: the file is missing, or is not COCO JSON.
    """
    with reading(annotations):
        text = annotations.read_text()
    with refusing(f"{annotations}: not COCO JSON with masks", Exception):  # pycocotools raises no other
        content = json.loads(text)
        images = {image["id"]: image for image in content["images"]}
        masked = [item for item in content["annotations"] if item.get("segmentation")]
        if content["annotations"] and not masked:
            return {}
        masks = {image["file_name"]: np.zeros((image["height"], image["width"]), bool) for image in images.values()}
        for item in masked:
            mask = masks[images[item["image_id"]]["file_name"]]
            mask |= decode_segmentation(item["segmentation"], *mask.shape)
    return masks
