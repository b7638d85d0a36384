"""One file of a VOC devkit's Annotations: size of an image, and boxes, names and difficulty of its objects."""

import math
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser, fromstring

from scfs.data.sources.box_checks import outside
from scfs.data.sources.image_probe import upright_size
from scfs.errors import ScfsError, reading, refusing

CORNERS = ("xmin", "ymin", "xmax", "ymax")


Origin = tuple[int, int]
"""What coordinates of a first pixel are above those of its outer edge, and those of a last pixel below them."""
VOC_ORIGIN: Origin = (1, 0)


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


def read_annotation(path: Path, image: Path, origin: Origin = VOC_ORIGIN) -> VocAnnotation:
    """Read one file; a size of 0 x 0, as some tools write it, is taken from the image.

    Raises:
        ScfsError: it cannot be read or parsed, or declares a document type (no entity is ever expanded); something is
            missing or is no number; a box has no area or lies outside its image (see `scfs.data.sources.box_checks`).
    """
    with reading(path):
        content = path.read_bytes()
    # ValueError and LookupError: an encoding that is not known.
    with refusing(f"{path}", ScfsError), refusing("not XML", ParseError, ValueError, LookupError):
        root = fromstring(content, XMLParser(target=_NoDoctype()))
        sides = [_number(root, f"size/{key}") for key in ("width", "height")]
        width, height = map(_side, ("width", "height"), sides if any(sides) else upright_size(image))
        items = enumerate(root.findall("object"), start=1)
        objects = [_object(item, number, width, height, origin) for number, item in items]
    return VocAnnotation(width, height, objects)


class _NoDoctype(TreeBuilder):
    def doctype(self, *declared: object) -> None:
        raise ScfsError("declares a document type, which may define entities: not allowed here")


def _side(key: str, side: float) -> int:
    if not isinstance(side, int) or side < 1:
        raise ScfsError(f"size/{key} = {side}: a whole number from 1 is expected")
    return side


def _object(item: Element, number: int, width: int, height: int, origin: Origin) -> VocObject:
    name = (item.findtext("name") or "").strip()
    if not name:
        raise ScfsError(f"object {number}: name is missing")
    where = f"object {number} ({name})"
    left, top, right, bottom = (_number(item, f"bndbox/{key}", f"{where}: ") for key in CORNERS)
    # Of the parts of an object (a person's head, hands and feet) each has a name and a box too; they lie deeper.
    first, last = origin
    box = (left - first, top - first, right + last - (left - first), bottom + last - (top - first))
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
