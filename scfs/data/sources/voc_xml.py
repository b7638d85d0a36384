"""One file of a VOC devkit's Annotations: size of an image, and boxes, names and difficulty of its objects."""

import math
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser, fromstring

from scfs.data.sources.box_checks import outside
from scfs.errors import ScfsError, reading

CORNERS = ("xmin", "ymin", "xmax", "ymax")


class VocObject(NamedTuple):
    """One object."""

    name: str
    """Class."""
    box: tuple[float, float, float, float]
    """Left, top, width, height; 0-based, from edge to edge: VOC counts pixels from 1 and includes the last."""
    difficult: bool
    """True if VOC's metric leaves it out."""


class VocAnnotation(NamedTuple):
    """One image."""

    width: int
    height: int
    objects: list[VocObject]


def read_annotation(path: Path) -> VocAnnotation:
    """Read one file.

    Raises:
        ScfsError: it cannot be read or parsed, or declares a document type (no entity is ever expanded); something is
            missing or is no number; a box has no area or lies outside its image (see `scfs.data.sources.box_checks`).
    """
    with reading(path):
        content = path.read_bytes()
    try:
        root = fromstring(content, XMLParser(target=_NoDoctype()))
        width, height = (_side(root, key) for key in ("width", "height"))
        objects = [_object(item, number, width, height) for number, item in enumerate(root.findall("object"), start=1)]
    except ScfsError as error:
        raise ScfsError(f"{path}: {error}") from None
    except (ParseError, ValueError, LookupError) as error:  # the last two: an encoding that is not known
        raise ScfsError(f"{path}: not XML: {error}") from None
    return VocAnnotation(width, height, objects)


class _NoDoctype(TreeBuilder):
    def doctype(self, *declared: object) -> None:
        raise ScfsError("declares a document type, which may define entities: not allowed here")


def _side(root: Element, key: str) -> int:
    side = _number(root, f"size/{key}")
    if not isinstance(side, int) or side < 1:
        raise ScfsError(f"size/{key} = {side}: a whole number from 1 is expected")
    return side


def _object(item: Element, number: int, width: int, height: int) -> VocObject:
    name = (item.findtext("name") or "").strip()
    if not name:
        raise ScfsError(f"object {number}: name is missing")
    where = f"object {number} ({name})"
    left, top, right, bottom = (_number(item, f"bndbox/{key}", f"{where}: ") for key in CORNERS)
    # Of the parts of an object (a person's head, hands and feet) each has a name and a box too; they lie deeper.
    box = (left - 1, top - 1, right - (left - 1), bottom - (top - 1))
    said = f"{where}: {', '.join(CORNERS)} = {left}, {top}, {right}, {bottom}"
    if min(box[2:]) <= 0:
        raise ScfsError(f"{said}: has no area")
    if problem := outside(box, width, height):
        raise ScfsError(f"{said}: {problem}")
    difficult = (item.findtext("difficult") or "0").strip()  # some tools leave it out
    if difficult not in ("0", "1"):
        raise ScfsError(f"{where}: difficult = {difficult!r}: 0 or 1 is expected")
    return VocObject(name, box, difficult == "1")


def _number(item: Element, path: str, where: str = "") -> int | float:
    """Parse an element: an integer where it is one. VOC2012 has coordinates such as 45.70000076293945."""
    text = item.findtext(path)
    if text is None:
        raise ScfsError(f"{where}{path} is missing")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ScfsError(f"{where}{path} = {text.strip()!r}: a number is expected")
    return int(value) if value.is_integer() else value
