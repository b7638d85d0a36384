"""The stage `inspect`: what a data set holds, in numbers and in small pictures, before anything is trained on it.

It writes two files. The JSON has the data set's name and `identity`, under `splits` what `_numbers` makes of each, and
under `between` the images that two splits share. The arrays (.npz) hold the contact sheet, by split S: `S/names`, the
class of each image shown (none without labels), and by image I `S/image_I` (h, w, 3) uint8 and, where the split has
boxes, `S/boxes_I` (N, 4) float32: corners x0 y0 x1 y1 in pixels of that small image.
"""

import hashlib
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from PIL import Image

from scfs.config.identity import STAGE_VERSIONS
from scfs.data.image_set import ImageSet
from scfs.data.manifest import describe
from scfs.data.opening import open_detection_split, open_split
from scfs.data.sources.coco_json import load_coco
from scfs.errors import ScfsError
from scfs.io.atomic import write_arrays, write_json
from scfs.io.parquet import read_parquet
from scfs.io.progress import log, track

SHOWN = 24
"""Images of a split on the contact sheet."""
SIDE = 96
"""Pixels of the longer side of an image there; smaller ones stay as they are."""
PAIRS = 5
"""Pairs of equal images that are named; of more there is the number."""

Pairs = list[tuple[int, int]]
"""Rows of equal images: the earlier one, the later one."""


@dataclass(frozen=True, eq=False)
class Boxes:
    """Objects of a split; regions that are marked as crowds are left out."""

    names: list[str]
    """Names of the classes, by id of the category."""
    counts: list[int]
    """Objects of each class."""
    by_path: dict[str, np.ndarray]
    """Boxes of the images asked for: left, top, width and height in pixels, (N, 4)."""


@dataclass(frozen=True, eq=False)
class Opened:
    """A split and what is looked at."""

    images: ImageSet
    hashes: list[bytes]
    """SHA-256 of each image."""
    left_out: int
    """Images that `prepare` left out."""
    shown: np.ndarray
    """Rows of the contact sheet, (m,)."""
    boxes: Boxes | None
    """None: the split has none."""


def inspect(manifest: Path, identity: str, out: Path) -> None:
    """Write `out` (ends in .json) and the arrays beside it; repeated, they are the same bytes.

    Images that are in two splits are a warning.

    Args:
        manifest: of the data set.
        identity: of `prepare` with the settings that the manifest was made by.
        out: where the numbers go.

    Raises:
        ScfsError: see `scfs.data.opening.open_split` and `scfs.data.opening.open_detection_split`; or an image of the
            contact sheet cannot be read or decoded, or is not the one that the manifest lists.
    """
    about = describe(manifest)
    splits = [_opened(manifest, split, hashes, about) for split, hashes in _hashes(manifest).items()]
    between = [_shared(first, second) for first, second in combinations(splits, 2)]
    arrays = {key: array for split in splits for key, array in _pictures(split).items()}
    for pair in (pair for pair in between if pair["number"]):
        log(
            f"warning: data set {about['name']}: {pair['number']} images of split {pair['splits'][1]} are in split "
            f"{pair['splits'][0]} too, the first is {pair['pairs'][0][1]} (there {pair['pairs'][0][0]})"
        )
    write_arrays(out.with_suffix(".npz"), arrays)
    record = {"dataset": about["name"], "identity": identity, "stage_version": STAGE_VERSIONS["inspect"]}
    write_json(out, {**record, "splits": [_numbers(split) for split in splits], "between": between})


def _hashes(manifest: Path) -> dict[str, list[bytes]]:
    """SHA-256 of the images of each split, in the manifest's order, which is the study's; its metadata are sorted."""
    table = read_parquet(manifest, ["split", "sha256"])
    splits = pc.unique(table["split"]).to_pylist()
    return {split: table.filter(pc.equal(table["split"], split))["sha256"].to_pylist() for split in splits}


def _opened(manifest: Path, split: str, hashes: list[bytes], about: dict[str, Any]) -> Opened:
    images, entry = open_split(manifest, split), about["splits"][split]
    rows = shown_rows(images.labels, len(images))
    has_boxes = "boxes" in entry or about["source"] == "garment-scenes"
    boxes = _boxes(manifest, split, [images.paths[row] for row in rows.tolist()]) if has_boxes else None
    return Opened(images, hashes, entry["unreadable"], rows, boxes)


def _boxes(manifest: Path, split: str, paths: Sequence[str]) -> Boxes:
    file = load_coco(open_detection_split(manifest, split).annotations)
    objects = [one for one in file.annotations if not one.iscrowd]
    counts = Counter(one.category_id for one in objects)
    wanted = set(paths)
    path_of = {image.id: image.file_name for image in file.images if image.file_name in wanted}
    found: dict[str, list[list[float]]] = {path: [] for path in paths}
    for one in objects:
        if one.image_id in path_of:
            found[path_of[one.image_id]].append(one.bbox)
    by_path = {path: np.array(boxes, np.float64).reshape(-1, 4) for path, boxes in found.items()}
    return Boxes(list(file.categories.values()), [counts[number] for number in file.categories], by_path)


def shown_rows(labels: np.ndarray | None, number: int) -> np.ndarray:
    """Rows of the contact sheet: at even distances, and with labels of as many classes as possible, class by class.

    Args:
        labels: (number,) int64, or None.
        number: images of the split.

    Returns:
        (m,) int64, m at most 24.
    """
    if labels is None:
        return evenly(number, SHOWN)
    present, counts = np.unique(labels, return_counts=True)
    chosen = evenly(len(present), SHOWN)
    found = []
    for label, share in zip(present[chosen], _shares(counts[chosen]), strict=True):
        of_class = np.flatnonzero(labels == label)
        found.append(of_class[evenly(len(of_class), share)])
    return np.concatenate(found)


def evenly(number: int, most: int) -> np.ndarray:
    """At most `most` of the indices 0 ... number - 1, at even distances."""
    taken = min(number, most)
    return np.arange(taken) * number // max(taken, 1)


def _shares(counts: np.ndarray) -> list[int]:
    """How many images of each class are shown: one more of each in turn, as long as it has more."""
    shares = np.zeros_like(counts)
    left = min(SHOWN, int(counts.sum()))
    while left:
        growing = np.flatnonzero(shares < counts)[:left]
        shares[growing] += 1
        left -= len(growing)
    return [int(share) for share in shares]


def _numbers(split: Opened) -> dict[str, Any]:
    """What the JSON says of a split."""
    images = split.images
    classes = None
    if images.labels is not None:
        counts = np.bincount(images.labels, minlength=len(images.classes))
        classes = {"names": list(images.classes), "counts": counts.tolist()}
    repeated = _repeated(split.hashes)
    return {
        "split": images.split,
        "images": len(images),
        "digest": images.digest,
        "left_out": split.left_out,
        "classes": classes,
        "objects": split.boxes and {"names": split.boxes.names, "counts": split.boxes.counts},
        "width": _extent(images.widths),
        "height": _extent(images.heights),
        "duplicates": {"number": len(repeated), "pairs": _named(repeated, images, images)},
    }


def _extent(sides: np.ndarray) -> dict[str, float]:
    return {"least": int(sides.min()), "median": float(np.median(sides)), "greatest": int(sides.max())}


def _repeated(hashes: Sequence[bytes]) -> Pairs:
    """Images whose content an earlier one has, with the first such."""
    first: dict[bytes, int] = {}
    pairs = ((first.setdefault(content, row), row) for row, content in enumerate(hashes))
    return [(earlier, later) for earlier, later in pairs if earlier != later]


def _shared(one: Opened, other: Opened) -> dict[str, Any]:
    """Images of the second split whose content the first one has."""
    first: dict[bytes, int] = {}
    for row, content in enumerate(one.hashes):
        first.setdefault(content, row)
    pairs = [(first[content], row) for row, content in enumerate(other.hashes) if content in first]
    named = _named(pairs, one.images, other.images)
    return {"splits": [one.images.split, other.images.split], "number": len(pairs), "pairs": named}


def _named(pairs: Pairs, one: ImageSet, other: ImageSet) -> list[list[str]]:
    return [[one.paths[first], other.paths[second]] for first, second in pairs[:PAIRS]]


def _pictures(split: Opened) -> dict[str, np.ndarray]:
    """Arrays of a split's part of the contact sheet."""
    images, name = split.images, split.images.split
    labels = [] if images.labels is None else images.labels[split.shown].tolist()
    arrays = {f"{name}/names": np.array([images.classes[label] for label in labels], str)}
    for number, row in enumerate(track(split.shown.tolist(), f"{images.name}/{name}", "images")):
        small = _small(images, row, split.hashes[row])
        arrays[f"{name}/image_{number}"] = small
        if split.boxes is not None:
            size = int(images.widths[row]), int(images.heights[row])
            arrays[f"{name}/boxes_{number}"] = _scaled(split.boxes.by_path[images.paths[row]], size, small)
    return arrays


def _small(images: ImageSet, row: int, sha256: bytes) -> np.ndarray:
    """An image with its longer side reduced to 96 pixels, (h, w, 3) uint8."""
    content, path = images.read(row), images.root / images.paths[row]
    if hashlib.sha256(content).digest() != sha256:
        raise ScfsError(f"{path}: not the image that was prepared: run `scfs prepare {images.name}` again")
    try:
        with Image.open(io.BytesIO(content)) as opened:
            image = opened.convert("RGB")
    # Pillow's decoders meet broken files with many types of exception (SyntaxError and struct.error among them).
    except Exception as error:
        reason = "unknown format" if isinstance(error, Image.UnidentifiedImageError) else str(error)
        raise ScfsError(f"{path}: cannot be decoded: {reason}") from None
    scale = SIDE / max(image.size)
    if scale < 1:
        width, height = (max(1, round(scale * side)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image)


def _scaled(boxes: np.ndarray, size: tuple[int, int], small: np.ndarray) -> np.ndarray:
    """Corners in the small image of boxes in one of `size` (width, height)."""
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    across, down = small.shape[1] / size[0], small.shape[0] / size[1]
    return (corners * [across, down, across, down]).astype(np.float32)
