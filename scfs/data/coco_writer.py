"""COCO JSON as it is written here (cocodataset.org, "Data format": object detection)."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

AnnotatedImage = tuple[str, int, int, Sequence[dict[str, Any]]]
"""Path in the manifest, width and height of an image, and its objects: keys of COCO's annotations but for the ids of
object and image."""


def coco_text(description: str, classes: Sequence[str], images: Iterable[AnnotatedImage]) -> str:
    """Write images and their objects as text: equal content gives equal bytes.

    All ids count from 1, those of categories in the order of the classes.
    """
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, (path, width, height, objects) in enumerate(images, start=1):
        entries.append({"id": image_id, "file_name": path, "width": width, "height": height})
        annotations += [
            {"id": number, "image_id": image_id, **item} for number, item in enumerate(objects, len(annotations) + 1)
        ]
    content = {
        "info": {"description": description},
        "licenses": [],
        "categories": [{"id": number, "name": name} for number, name in enumerate(classes, start=1)],
        "images": entries,
        "annotations": annotations,
    }
    return json.dumps(content, separators=(",", ":"), sort_keys=True) + "\n"
