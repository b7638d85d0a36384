"""Repairs of COCO's instances JSON as annotation tools export it, as far as pycocotools and Detectron2 go as well."""

import codecs
import json
from collections import Counter
from pathlib import Path
from typing import Any

from scfs.data.sources.box_checks import REACH, outside
from scfs.errors import reading

WHOLE = ("id", "image_id", "category_id", "width", "height")
"""Keys of whole numbers, which some tools write as 1.0."""


def repair_coco(path: Path) -> tuple[str, list[str]]:
    """Repair what can be repaired; whether all is sound then, `load_coco` finds.

    Returns:
        The whole JSON, and what was done, with its number; nothing where it is not built as COCO's instances.

    Raises:
        ScfsError: the file cannot be read.
    """
    with reading(path):
        content = path.read_bytes()
    done = Counter({"byte-order marks left out": int(content.startswith(codecs.BOM_UTF8))})
    try:
        coco = json.loads(content.decode("utf-8-sig"))
        for entry in (entry for section in ("images", "categories", "annotations") for entry in coco[section]):
            fractions = [key for key in WHOLE if isinstance(entry.get(key), float) and entry[key].is_integer()]
            entry.update((key, int(entry[key])) for key in fractions)
            done["ids and sizes such as 1.0 made whole"] += len(fractions)
        coco["annotations"] = _repaired(coco["annotations"], coco["images"], done)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        return "", []
    return json.dumps(coco, separators=(",", ":")) + "\n", [f"{number:,} {what}" for what, number in (+done).items()]


def _repaired(entries: list[Any], images: list[Any], done: Counter[str]) -> list[Any]:
    """Repair annotations in place, and return those that can be used."""
    sizes = {image["id"]: (image["width"], image["height"]) for image in images}
    raised = max(0, 1 - min((entry["id"] for entry in entries), default=1))
    for entry in entries:
        entry["id"] += raised
        done[f"ids of annotations raised by {raised}: pycocotools takes 0 for no match"] += raised > 0
        size, (left, top, *sides) = sizes.get(entry["image_id"], (0, 0)), entry["bbox"]
        if outside(entry["bbox"], *size) and not outside(entry["bbox"], *size, REACH):
            near, far = (max(left, 0), max(top, 0)), (min(left + sides[0], size[0]), min(top + sides[1], size[1]))
            entry["bbox"] = [*near, far[0] - near[0], far[1] - near[1]]
            done[f"boxes up to {REACH} pixels outside their images cut off at the border"] += 1
        for key, value, said in (("iscrowd", 0, 0), ("area", entry["bbox"][2] * entry["bbox"][3], "the box's")):
            if entry.get(key) is None:
                entry[key] = value
                done[f"annotations without {key}, which is taken for {said}"] += 1
        if isinstance(polygons := entry.get("segmentation"), list):
            kept = [one for one in polygons if not isinstance(one, list) or (len(one) >= 6 and len(one) % 2 == 0)]
            entry["segmentation"] = kept
            done["polygons without three whole points left out"] += len(polygons) - len(kept)
    masked = [entry for entry in entries if entry.get("segmentation")]
    usable = masked or entries
    done["annotations without a mask left out, as others of the file have one"] += len(entries) - len(usable)
    return usable
