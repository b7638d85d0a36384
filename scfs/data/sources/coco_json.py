"""COCO's instances JSON (cocodataset.org, "Data format": object detection), read and checked; masks are only looked at.

Of images and annotations no more is kept than others need here: the polygons of train2017 alone take 1.5 GB as Python's
objects. Who needs them reads the file itself, which was checked before.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar

from scfs.data.sources.box_checks import leaves_image, outside
from scfs.errors import ScfsError
from scfs.io.progress import log, track

HUGE = 1e9
"""No coordinate is that far away; what is not a number is not below it either."""


class Mask(NamedTuple):
    """Facts of a mask that are known without drawing it."""

    size: tuple[int, int] | None = None
    """(height, width) of run lengths; None for polygons."""
    problem: str | None = None
    """Problem that makes it unusable."""


class CocoImage(NamedTuple):
    """An entry of `images`."""

    id: int
    file_name: str
    """Relative to the images' folder."""
    width: int
    height: int


class CocoAnnotation(NamedTuple):
    """An entry of `annotations`: one object, or a region full of them (a crowd)."""

    id: int
    """Id, from 1: pycocotools takes 0 for "no match", and counts a detection of such an object as a false one."""
    image_id: int
    category_id: int
    bbox: list[float]
    """Left, top, width, height."""
    area: float
    iscrowd: int
    """1: a region that no detection is counted in, for or against."""
    difficult: int = 0
    """1: the same of an object, in VOC's words. Not COCO's: the converted devkits have it."""
    ignore: int = 0
    """An older name of `iscrowd`; only 0 is taken."""
    mask: Mask | None = None
    """Its mask; None: there is none."""


@dataclass(frozen=True, eq=False)
class CocoJson:
    """A file that was found sound."""

    path: Path
    digest: str
    """SHA-256 of the file."""
    images: list[CocoImage]
    annotations: list[CocoAnnotation]
    categories: dict[int, str]
    """Names of the classes by id, the least first; ids need not be contiguous."""
    lines: list[int]
    """Ids of annotations whose box and mask have no area, but one side longer than 0: train2017 has two (918, 2206849).
    Detectron2 leaves them out of the training."""


def load_coco(path: Path) -> CocoJson:
    """Read a file and check all that can be checked without its images.

    Raises:
        ScfsError: it cannot be read or parsed, or is not COCO's instances; ids appear twice or are of nothing; a box
            lies outside its image (see `box_checks`) or has no area; a mask is broken, of another size than its
            image, or missing where other annotations have one.
    """
    content, digest = _parsed(path)
    try:
        images = _images(content)
        categories = _categories(content)
        annotations = _rows(content, "annotations", CocoAnnotation, ANNOTATION_KEYS)
        lines = _check_annotations(path, annotations, {image.id: image for image in images}, categories)
    except _UnsoundError as error:
        raise ScfsError(f"{path}: {error}") from None
    return CocoJson(path, digest, images, annotations, dict(sorted(categories.items())), lines)


class _UnsoundError(Exception):
    """Error of a file that is not sound."""


Row = TypeVar("Row", CocoImage, CocoAnnotation)
IMAGE_KEYS = frozenset(CocoImage._fields)
ANNOTATION_KEYS = frozenset(CocoAnnotation._fields[:6])
"""Keys that must be there."""


def _parsed(path: Path) -> tuple[Any, str]:
    log(f"{path}: reading")
    try:
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        text = content.decode()
        del content  # half a gigabyte of train2017's
        return json.loads(text, object_hook=_row, parse_constant=_refuse_constant), digest
    except OSError as error:
        raise ScfsError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # ValueError: not UTF-8 as well
        raise ScfsError(f"{path}: not JSON: {error}") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _row(item: dict[str, Any]) -> Any:
    """Reduce an object of the JSON, as soon as it is read, to the keys that are kept."""
    if item.keys() >= ANNOTATION_KEYS:
        kept = {key: item[key] for key in CocoAnnotation._fields if key in item}
        return CocoAnnotation(**kept | {"mask": _mask(item.get("segmentation"))})
    if item.keys() >= IMAGE_KEYS:
        return CocoImage(*(item[key] for key in CocoImage._fields))
    return item


POLYGONS = Mask()


def _mask(segmentation: Any) -> Mask | None:
    if segmentation is None or segmentation in ([], {}):
        return None
    if isinstance(segmentation, dict):
        return _run_lengths(segmentation)
    if not isinstance(segmentation, list):
        return Mask(problem="polygons or run lengths are expected")
    for polygon in segmentation:
        if not isinstance(polygon, list) or not set(map(type, polygon)) <= {int, float}:
            return Mask(problem="a polygon must be a list of numbers")
        if len(polygon) < 6 or len(polygon) % 2:
            return Mask(problem=f"a polygon of {len(polygon)} numbers: at least 6, x and y by turns, are expected")
        if not (min(polygon) > -HUGE and max(polygon) < HUGE):
            return Mask(problem="a polygon must be a list of finite numbers")
    return POLYGONS


def _run_lengths(rle: Mapping[str, Any]) -> Mask:
    size, counts = rle.get("size"), rle.get("counts")
    if not isinstance(size, list) or list(map(type, size)) != [int, int]:
        return Mask(problem=f"size of run lengths = {size!r}: [height, width] is expected")
    found = Mask((size[0], size[1]))
    if isinstance(counts, str):  # compressed
        return found
    if not isinstance(counts, list) or not set(map(type, counts)) <= {int} or min(counts, default=0) < 0:
        return Mask(problem="counts of run lengths must be whole numbers, or text if they are compressed")
    if sum(counts) != size[0] * size[1]:
        return Mask(problem=f"run lengths of {sum(counts)} pixels: size = {size} has {size[0] * size[1]}")
    return found


def _rows(content: Any, section: str, kind: type[Row], keys: frozenset[str]) -> list[Row]:
    """Return a section's list, every entry of which is of the kind."""
    rows = _list(content, section)
    for number, row in enumerate(rows):
        if not isinstance(row, kind):
            if isinstance(row, dict):
                missing = sorted(keys - row.keys())[0]
                raise _UnsoundError(f"{section}[{number}]: key {missing!r} is missing")
            raise _UnsoundError(f"{section}[{number}]: not an entry of {section}")
    return rows


def _list(content: Any, section: str) -> list[Any]:
    if not isinstance(content, dict) or section not in content:
        raise _UnsoundError(f"not COCO's instances: key {section!r} is missing")
    if not isinstance(content[section], list):
        raise _UnsoundError(f"not COCO's instances: {section} must be a list")
    return list(content[section])


def _images(content: Any) -> list[CocoImage]:
    images = _rows(content, "images", CocoImage, IMAGE_KEYS)
    if not images:
        raise _UnsoundError("images: none")
    names: set[str] = set()
    for image in _unique(images, "image"):
        where, name = f"image {image.id}", image.file_name
        if not isinstance(name, str) or not _is_below(name):
            raise _UnsoundError(f"{where}: file_name = {name!r}: a path within the images' folder is expected")
        if name in names:
            raise _UnsoundError(f"{where}: file_name = {name!r}: another image has the same")
        names.add(name)
        for key, side in (("width", image.width), ("height", image.height)):
            if type(side) is not int or side < 1:
                raise _UnsoundError(f"{where}: {key} = {side!r}: a whole number from 1 is expected")
    return images


def _is_below(name: str) -> bool:
    path = PurePosixPath(name)
    return path.name != "" and not path.is_absolute() and ".." not in path.parts


def _unique(rows: list[Row], what: str) -> Iterator[Row]:
    seen: set[int] = set()
    for row in rows:
        if type(row.id) is not int:
            raise _UnsoundError(f"{what} id = {row.id!r}: a whole number is expected")
        if row.id in seen:
            raise _UnsoundError(f"{what} id = {row.id}: appears twice")
        seen.add(row.id)
        yield row


def _categories(content: Any) -> dict[int, str]:
    found: dict[int, str] = {}
    for number, category in enumerate(_list(content, "categories")):
        where = f"categories[{number}]"
        for key, kind, wanted in (("id", int, "a whole number"), ("name", str, "text")):
            if not isinstance(category, dict) or key not in category:
                raise _UnsoundError(f"{where}: key {key!r} is missing")
            if type(category[key]) is not kind or category[key] == "":
                raise _UnsoundError(f"{where}: {key} = {category[key]!r}: {wanted} is expected")
        if category["id"] in found:
            raise _UnsoundError(f"category id = {category['id']}: appears twice")
        if category["name"] in found.values():
            raise _UnsoundError(f"category name = {category['name']!r}: appears twice")
        found[category["id"]] = category["name"]
    if not found:
        raise _UnsoundError("categories: none")
    return found


def _check_annotations(
    path: Path, annotations: list[CocoAnnotation], images: Mapping[int, CocoImage], categories: Mapping[int, str]
) -> list[int]:
    """Check all annotations, and return the ids of CocoJson's `lines`."""
    lines = []
    masked = any(annotation.mask for annotation in annotations)
    for one in track(_unique(annotations, "annotation"), f"{path}", "annotations", len(annotations)):
        problem = "ids from 1 are expected" if one.id < 1 else _references(one, images, categories)
        problem = problem or _measures(one) or _geometry(one, images[one.image_id], masked)
        if problem:
            raise _UnsoundError(f"annotation {one.id}: {problem}")
        if 0 in one.bbox[2:]:
            lines.append(one.id)
    return lines


def _references(one: CocoAnnotation, images: Mapping[int, CocoImage], categories: Mapping[int, str]) -> str | None:
    for key, number, known in (("image_id", one.image_id, images), ("category_id", one.category_id, categories)):
        if type(number) is not int or number not in known:
            return f"{key} = {number!r}: there is none of this id"
    return None


def _measures(one: CocoAnnotation) -> str | None:
    box = one.bbox
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(value) for value in box):
        return f"bbox = {box!r}: left, top, width and height are expected"
    if not _is_number(one.area) or one.area < 0:
        return f"area = {one.area!r}: a number from 0 is expected"
    for key, value in (("iscrowd", one.iscrowd), ("difficult", one.difficult)):
        if value not in (0, 1):
            return f"{key} = {value!r}: 0 or 1 is expected"
    return None if one.ignore in (0, None) else f"ignore = {one.ignore!r}: only iscrowd is known here"


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -HUGE < value < HUGE


def _geometry(one: CocoAnnotation, image: CocoImage, masked: bool) -> str | None:
    shorter, longer = sorted(one.bbox[2:])
    if shorter < 0 or (shorter == 0 and (longer == 0 or one.area > 0)):
        return f"bbox = {one.bbox}: has no area"
    if leaves_image(one.bbox, image.width, image.height):
        return f"bbox = {one.bbox}: {outside(image.width, image.height)}"
    if one.mask is None:
        return "has no mask (segmentation), and others of the file have" if masked else None
    if one.mask.problem:
        return f"segmentation: {one.mask.problem}"
    if one.mask.size not in (None, (image.height, image.width)):
        return f"run lengths for {one.mask.size} pixels: its image has {(image.height, image.width)} (height, width)"
    return None
