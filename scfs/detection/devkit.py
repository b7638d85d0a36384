"""A split as a VOC devkit, for evaluators that read one (VOC2007 devkit, "Annotation format")."""

import xml.etree.ElementTree as ET
from pathlib import Path
from urllib.parse import quote

from scfs.detection.data import DetectionSplit, Record
from scfs.errors import writing

SPLIT = "test"


def class_name(name: str) -> str:
    """Return a class's name in a devkit, where it names a file: slashes and the like are percent-encoded."""
    return quote(name, safe=" ")


def image_name(image_id: int) -> str:
    """Return an image's name in a devkit."""
    return f"{image_id:06d}"


def is_left_out(item: Record) -> bool:
    """True if an object neither counts nor is wrong to detect: VOC's difficult ones, and crowds."""
    return bool(item.get("difficult", 0) or item.get("iscrowd", 0))


def write_devkit(split: DetectionSplit, folder: Path) -> None:
    """Write Annotations/*.xml and ImageSets/Main/test.txt into `folder`.

    Corners are the first and last pixel, counted from 1, rounded if the boxes do not lie on pixels.

    Raises:
        ScfsError: the disk is full or the folder cannot be written.
    """
    annotations, lists = folder / "Annotations", folder / "ImageSets" / "Main"
    with writing(folder):
        for place in (annotations, lists):
            place.mkdir(parents=True, exist_ok=True)
        for record in split.records:
            tree = ET.ElementTree(_annotation(record, split.classes))
            tree.write(annotations / f"{image_name(record['image_id'])}.xml", encoding="utf-8")
        names = [image_name(record["image_id"]) for record in split.records]
        (lists / f"{SPLIT}.txt").write_text("".join(f"{name}\n" for name in names))


def _annotation(record: Record, classes: tuple[str, ...]) -> ET.Element:
    root = ET.Element("annotation")
    _fill(ET.SubElement(root, "size"), {"width": record["width"], "height": record["height"], "depth": 3})
    for item in record["annotations"]:
        left, top, width, height = item["bbox"]
        element, name = ET.SubElement(root, "object"), class_name(classes[item["category_id"]])
        _fill(element, {"name": name, "pose": "Unspecified", "truncated": 0, "difficult": int(is_left_out(item))})
        corners = {"xmin": left + 1, "ymin": top + 1, "xmax": left + width, "ymax": top + height}
        _fill(ET.SubElement(element, "bndbox"), {name: round(value) for name, value in corners.items()})
    return root


def _fill(parent: ET.Element, values: dict[str, object]) -> None:
    for name, value in values.items():
        ET.SubElement(parent, name).text = str(value)
