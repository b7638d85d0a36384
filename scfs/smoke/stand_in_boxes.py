"""Stand-ins with boxes for `scfs smoke`: a COCO JSON with masks, a VOC devkit; images of noise, as everywhere."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np

from scfs.config.data import SMALL_IMAGES
from scfs.data.coco_rle import encode_mask
from scfs.smoke.stand_ins import HEIGHT, WIDTH, write_images

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
"""PASCAL VOC's, for a data set that leaves its classes to its annotations."""
COCO_CATEGORIES = {1: "person", 18: "dog", 90: "toothbrush"}
"""Some of COCO's, with their ids, which have gaps."""
LEAST = 16
"""Pixels of the shortest side of a box."""


class Box(NamedTuple):
    """Borders of an object in pixels, 0-based, the right and the lower one not included."""

    left: int
    top: int
    right: int
    bottom: int


def write_boxes(folder: Path, values: Mapping[str, Any]) -> None:
    """Write all data sets with boxes that a rehearsal's file names, see scfs.config.data.Coco.small and Voc.small."""
    for name, data in values.get("data", {}).items():
        for split, places in data["splits"].items():
            if data["source"] == "coco":
                write_images(folder / places["images"], f"{name}/{split}", labelled=False, unlisted=False)
                write_coco(folder / places["annotations"], f"{name}/{split}")
            elif data["source"] == "voc":
                lists = [folder / place for place in places]
                write_devkits(lists, f"{name}/{split}", data.get("classes") or VOC_CLASSES)


def _boxes(seed: str, classes: Sequence[str]) -> Iterator[list[tuple[str, Box]]]:
    """Draw the objects of each image: at least one, and over all images at least one of each class."""
    generator = np.random.default_rng(int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "big"))
    for number in range(SMALL_IMAGES):
        found = []
        for name in classes[number::SMALL_IMAGES] or (classes[number % len(classes)],):
            left, top = (int(generator.integers(0, side - LEAST)) for side in (WIDTH, HEIGHT))
            right, bottom = (int(generator.integers(a + LEAST, b + 1)) for a, b in ((left, WIDTH), (top, HEIGHT)))
            found.append((name, Box(left, top, right, bottom)))
        yield found


def write_coco(path: Path, seed: str) -> None:
    """Write instances of images 0.jpg, ...: a diamond in each box as its mask, and a crowd in the first image."""
    ids = {name: number for number, name in COCO_CATEGORIES.items()}
    images, objects = [], []
    for image_id, found in enumerate(_boxes(seed, tuple(ids)), start=1):
        images.append({"id": image_id, "file_name": f"{image_id - 1}.jpg", "width": WIDTH, "height": HEIGHT})
        objects += [{"image_id": image_id, "category_id": ids[name], **_diamond(box)} for name, box in found]
    objects.append({"image_id": 1, "category_id": min(COCO_CATEGORIES), **_crowd(Box(0, 0, LEAST, LEAST))})
    content = {
        "info": {"description": "a stand-in"},
        "categories": [{"id": number, "name": name} for number, name in COCO_CATEGORIES.items()],
        "images": images,
        "annotations": [{"id": number, **item} for number, item in enumerate(objects, start=1)],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def _diamond(box: Box) -> dict[str, Any]:
    left, top, right, bottom = box
    x, y = (left + right) / 2, (top + bottom) / 2
    width, height = right - left, bottom - top
    polygon = [left, y, x, top, right, y, x, bottom]
    size = {"bbox": [left, top, width, height], "area": width * height / 2}
    return {**size, "iscrowd": 0, "segmentation": [polygon]}


def _crowd(box: Box) -> dict[str, Any]:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[box.top : box.bottom, box.left : box.right] = True
    bounds = [box.left, box.top, box.right - box.left, box.bottom - box.top]
    return {"bbox": bounds, "area": int(mask.sum()), "iscrowd": 1, "segmentation": encode_mask(mask)}


def write_devkits(lists: Sequence[Path], seed: str, classes: Sequence[str]) -> None:
    """Write a devkit for each list of a split; together the lists name `SMALL_IMAGES` images."""
    found = list(_boxes(seed, classes))
    for number, file in enumerate(lists):
        devkit, names = file.parents[2], [str(image) for image in range(number, SMALL_IMAGES, len(lists))]
        write_images(devkit / "JPEGImages", f"{seed}/{number}", labelled=False, unlisted=False)
        (devkit / "Annotations").mkdir()
        for name in names:
            (devkit / "Annotations" / f"{name}.xml").write_bytes(_annotation(f"{name}.jpg", found[int(name)]))
        file.parent.mkdir(parents=True)
        file.write_text("".join(f"{name}\n" for name in names))


def _annotation(file: str, found: Sequence[tuple[str, Box]]) -> bytes:
    """Make VOC's XML. Its pixels count from 1, the last is included; the first object is there a second time, as a
    difficult one."""
    root = Element("annotation")
    SubElement(root, "filename").text = file
    _fill(SubElement(root, "size"), width=WIDTH, height=HEIGHT, depth=3)
    for difficult, (name, box) in [*((0, one) for one in found), (1, found[0])]:
        item = SubElement(root, "object")
        _fill(item, name=name, pose="Unspecified", truncated=0, difficult=difficult)
        bounds = {"xmin": box.left + 1, "ymin": box.top + 1, "xmax": box.right, "ymax": box.bottom}
        _fill(SubElement(item, "bndbox"), **bounds)
    return tostring(root)


def _fill(element: Element, **values: str | int) -> None:
    for key, value in values.items():
        SubElement(element, key).text = str(value)
