"""Objects of the garment scenes, as COCO's annotations."""

from typing import Any

import numpy as np

from scfs.data.coco_rle import encode_mask
from scfs.data.scenes.compose import Scene


def annotated_objects(scene: Scene) -> list[dict[str, Any]]:
    """List the objects of a scene for `scfs.data.coco_writer.coco_text`; one that is wholly hidden is left out."""
    return [
        {"category_id": item.label + 1, "iscrowd": 0, **_geometry(item.mask)}
        for item in scene.objects
        if item.mask.any()
    ]


def _geometry(mask: np.ndarray) -> dict[str, Any]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    return {
        "bbox": [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
        "area": int(mask.sum()),
        "segmentation": encode_mask(mask),
    }
