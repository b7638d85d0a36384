"""COCO's instances JSON (cocodataset.org, "Data format": object detection), read and checked; no mask is drawn.

Of images and annotations no more is kept than others need here: the polygons of train2017 alone take 1.5 GB as Python's
objects. Who needs them reads the file itself, which was checked before.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from scfs.config.base import first_problem
from scfs.data.coco_rle import decode_counts
from scfs.data.sources.box_checks import REACH, outside
from scfs.errors import ScfsError, reading, refusing
from scfs.io.progress import log, track

HUGE = 1e9
"""No coordinate is that far away; what is not a number is not below it either."""
FAR = 1e6
"""The same of polygons, which pycocotools follows pixel by pixel."""
Number = Annotated[float, Field(gt=-HUGE, lt=HUGE)]
Side = Annotated[int, Field(ge=1)]


def _below(name: str) -> str:
    path = PurePosixPath(name)
    if path.name == "" or path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{name!r}: a path within the images' folder is expected")
    return name


class Mask(NamedTuple):
    """Facts of a mask that are known without drawing it."""

    size: tuple[int, int] | None = None
    """(height, width) of run lengths; None for polygons."""
    problem: str | None = None
    """Problem that makes it unusable."""


class CocoCategory(NamedTuple):
    """An entry of `categories`."""

    id: int
    name: Annotated[str, Field(min_length=1)]


class CocoImage(NamedTuple):
    """An entry of `images`."""

    id: int
    file_name: Annotated[str, AfterValidator(_below)]
    """Relative to the images' folder."""
    width: Side
    height: Side


class CocoAnnotation(NamedTuple):
    """An entry of `annotations`: one object, or a region full of them (a crowd)."""

    id: Annotated[int, Field(ge=1)]
    """Id, from 1: pycocotools takes 0 for "no match", and counts a detection of such an object as a false one."""
    image_id: int
    category_id: int
    bbox: Annotated[list[Number], Field(min_length=4, max_length=4)]
    """Left, top, width, height."""
    area: Annotated[Number, Field(ge=0)]
    iscrowd: Literal[0, 1]
    """1: a region that no detection is counted in, for or against."""
    difficult: Literal[0, 1] = 0
    """1: the same of an object, in VOC's words. Not COCO's: the converted devkits have it."""
    ignore: Literal[0] | None = 0
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


def load_coco(path: Path, text: str | None = None) -> CocoJson:
    """Read a file and check all that can be checked without its images.

    Args:
        path: the file.
        text: content that takes the place of the file's.

    Raises:
        ScfsError: it cannot be read or parsed, or is not COCO's instances; ids appear twice or are of nothing; a box
            lies outside its image (see `box_checks`) or has no area; a mask is broken, of another size than its
            image, or missing where other annotations have one.
    """
    content, digest = _parsed(path, text)
    with refusing(f"{path}", ScfsError):
        images = _rows(content, "images", CocoImage, "file_name")
        categories = dict(sorted(_rows(content, "categories", CocoCategory, "name")))
        annotations = _rows(content, "annotations", CocoAnnotation)
        lines = _check_annotations(path, annotations, {image.id: image for image in images}, categories)
    return CocoJson(path, digest, images, annotations, categories, lines)


Row = TypeVar("Row", CocoImage, CocoAnnotation, CocoCategory)
KEYS: dict[type[Any], frozenset[str]] = {
    CocoAnnotation: frozenset(CocoAnnotation._fields[:6]),
    CocoImage: frozenset(CocoImage._fields),
    CocoCategory: frozenset(CocoCategory._fields),
}
"""Keys that an entry must have: the first kind whose keys an object has is what it is taken for."""


def _parsed(path: Path, replacement: str | None) -> tuple[Any, str]:
    log(f"{path}: reading")
    with reading(path):
        content = path.read_bytes() if replacement is None else replacement.encode()
    with refusing(f"{path}: not JSON", ValueError, RecursionError):  # ValueError: not UTF-8 as well
        digest = hashlib.sha256(content).hexdigest()
        text = content.decode()
        del content  # half a gigabyte of train2017's
        return json.loads(text, object_hook=_row, parse_constant=_refuse_constant), digest


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _row(item: dict[str, Any]) -> Any:
    """Reduce an object of the JSON, as soon as it is read, to the keys that are kept."""
    item["mask"] = _mask(item.pop("segmentation", None))
    for kind, keys in KEYS.items():
        if item.keys() >= keys:
            return kind(**{key: item[key] for key in kind._fields if key in item})
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
        if not (min(polygon) > -FAR and max(polygon) < FAR):
            return Mask(problem=f"a polygon must be a list of numbers below {FAR:,.0f}")
    return POLYGONS


def _run_lengths(rle: Mapping[str, Any]) -> Mask:
    size, counts = rle.get("size"), rle.get("counts")
    if not isinstance(size, list) or list(map(type, size)) != [int, int]:
        return Mask(problem=f"size of run lengths = {size!r}: [height, width] is expected")
    if isinstance(counts, str):
        try:
            counts = decode_counts(counts)
        except ValueError as error:
            return Mask(problem=f"compressed run lengths: {error}")
    if not isinstance(counts, list) or not set(map(type, counts)) <= {int} or min(counts, default=0) < 0:
        return Mask(problem="counts of run lengths must be whole numbers from 0, or text if they are compressed")
    if sum(counts) != size[0] * size[1]:
        return Mask(problem=f"run lengths of {sum(counts)} pixels: size = {size} has {size[0] * size[1]}")
    return Mask((size[0], size[1]))


def _rows(content: Any, section: str, kind: type[Row], name: str = "") -> list[Row]:
    """Return a section's list, every entry of which is of the kind and has an id of its own.

    Where entries have a `name`, it is their own too, and there must be some.
    """
    if not isinstance(content, dict) or section not in content:
        raise ScfsError(f"not COCO's instances: key {section!r} is missing")
    rows = content[section]
    if not isinstance(rows, list):
        raise ScfsError(f"not COCO's instances: {section} must be a list")
    if name and not rows:
        raise ScfsError(f"{section}: none")
    seen: dict[str, set[Any]] = {key: set() for key in ("id", name) if key}
    check = TypeAdapter(kind, config=ConfigDict(strict=True))
    for number, row in enumerate(rows):
        if isinstance(row, dict):
            missing = min(KEYS[kind] - row.keys())
            raise ScfsError(f"{section}[{number}]: key {missing!r} is missing")
        if not isinstance(row, kind):
            raise ScfsError(f"{section}[{number}]: not an entry of {section}")
        try:
            check.validate_python(row._asdict())
        except ValidationError as error:
            raise first_problem(f"{section}[{number}]", error) from None
        for key, values in seen.items():
            value = getattr(row, key)
            if value in values:
                raise ScfsError(f"{section}[{number}]: {key} = {value!r}: appears twice")
            values.add(value)
    return rows


def _check_annotations(
    path: Path, annotations: list[CocoAnnotation], images: Mapping[int, CocoImage], categories: Mapping[int, str]
) -> list[int]:
    """Check all annotations, and return the ids of CocoJson's `lines`."""
    masked = any(annotation.mask for annotation in annotations)
    for one in track(annotations, f"{path}", "annotations"):
        problem = next(_problems(one, images, categories, masked), None)
        if problem:
            raise ScfsError(f"annotation {one.id}: {problem}")
    return [one.id for one in annotations if 0 in one.bbox[2:]]


def _problems(
    one: CocoAnnotation, images: Mapping[int, CocoImage], categories: Mapping[int, str], masked: bool
) -> Iterator[str]:
    """Yield the first problem of an annotation; what is checked behind it needs what is checked before."""
    for key, number, known in (("image_id", one.image_id, images), ("category_id", one.category_id, categories)):
        if number not in known:
            yield f"{key} = {number!r}: there is none of this id"
    box, mask, image = one.bbox, one.mask, images[one.image_id]
    shorter, longer = sorted(box[2:])
    if shorter < 0 or (shorter == 0 and (longer == 0 or one.area > 0)):
        yield f"bbox = {box}: has no area"
    if left := outside(box, image.width, image.height, REACH) or outside(box, image.width, image.height):
        yield f"bbox = {box}: {left}"
    if mask is None and masked:
        yield "has no mask (segmentation), and others of the file have"
    if mask and mask.problem:
        yield f"segmentation: {mask.problem}"
    if mask and mask.size not in (None, (image.height, image.width)):
        yield f"run lengths for {mask.size} pixels: its image has {(image.height, image.width)} (height, width)"
