"""The stage `inspect`: what a data set holds, in numbers and small pictures, before anything is trained on it."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from PIL import Image, ImageOps

from scfs.config.data import MAX_PIXELS
from scfs.config.identity import STAGE_VERSIONS
from scfs.config.scenes import SCENES
from scfs.data.decoding import opened
from scfs.data.image_set import ImageSet, warn_of_new_labels
from scfs.data.manifest import count_notes, describe
from scfs.data.opening import open_detection_split, open_split
from scfs.data.sources.coco_json import load_coco
from scfs.errors import ScfsError, refusing
from scfs.io.dataset_stats import ClassCounts, DatasetStats, EqualImages, Range, Sample, SharedImages, SplitStats
from scfs.io.parquet import read_parquet
from scfs.io.progress import log, track

SAMPLES = 24
"""Sample images of a split."""
SIDE = 96
"""Pixels of the longer side of a sample image; images that are smaller stay as they are."""
Annotated = tuple[tuple[int, int], np.ndarray]
"""Width and height of an image as annotated, and its boxes: left, top, width and height in pixels, (N, 4)."""
PAIRS = 5
"""Pairs of equal images that are named; of more there is the number alone."""


def inspect(manifest: Path, identity: str, out: Path) -> None:
    """Write the numbers and sample images of a data set (`scfs.io.dataset_stats`); repeated, they are the same bytes.

    Images that are in two splits are a warning, and so are labels that the split `train` lacks.

    Args:
        manifest: manifest of the data set.
        identity: identity of `prepare` with the settings that the manifest was made by.
        out: file of the numbers (ends in .json).

    Raises:
        ScfsError: see `scfs.data.opening.open_split` and `scfs.data.opening.open_detection_split`; or a sample image
            cannot be read or decoded, or is not the one that the manifest lists.
    """
    about = describe(manifest)
    # In the manifest's order, which is the study's; its metadata are sorted.
    names = pc.unique(read_parquet(manifest, ["split"])["split"]).to_pylist()
    opened = {split: open_split(manifest, split) for split in names}
    between = tuple(
        SharedImages(splits=splits, **_equal_images(*(opened[split] for split in splits)))
        for splits in combinations(names, 2)
    )
    stats = []
    for split, images in opened.items():
        entry = about["splits"][split]
        has_boxes = "boxes" in entry or about["source"] in SCENES
        stats.append(_split_stats(images, entry, manifest if has_boxes else None))
        for note, (number, first) in stats[-1].notes.items():
            log(f"data set {about['name']}, split {split}: {note}: {number} images, the first is {first}")
    for pair in (pair for pair in between if pair.number):
        log(
            f"warning: data set {about['name']}: {pair.number} images of split {pair.splits[1]} are in split "
            f"{pair.splits[0]} too, the first is {pair.pairs[0][1]} (there {pair.pairs[0][0]})"
        )
    warn_of_new_labels(about["name"], {split: (images.table, images.classes) for split, images in opened.items()})
    version = STAGE_VERSIONS["inspect"]
    DatasetStats(
        dataset=about["name"], identity=identity, stage_version=version, splits=tuple(stats), between=between
    ).write(out)


def _split_stats(images: ImageSet, entry: Mapping[str, Any], annotated: Path | None) -> SplitStats:
    """Count, measure and sample the images of a split; `annotated`: manifest of the data set, if it has boxes."""
    classes = objects = None
    if images.labels is not None:
        counts = np.bincount(images.labels, minlength=len(images.classes))
        classes = ClassCounts(names=images.classes, counts=counts.tolist())
    rows = sample_rows(images.labels, len(images)).tolist()
    boxes: dict[str, Annotated] = {}
    if annotated is not None:
        objects, boxes = _objects(annotated, images.split, [images.paths[row] for row in rows])
    tracked = track(rows, f"{images.name}/{images.split}", "images")
    return SplitStats(
        split=images.split,
        images=len(images),
        digest=images.digest,
        left_out=entry["unreadable"],
        classes=classes,
        objects=objects,
        width=_range(images.widths),
        height=_range(images.heights),
        duplicates=EqualImages(**_equal_images(images, images)),
        notes=entry.get("notes") or count_notes(entry.get("odd", {}).items()),
        samples=tuple(_sample(images, row, boxes.get(images.paths[row])) for row in tracked),
    )


def _objects(manifest: Path, split: str, paths: Sequence[str]) -> tuple[ClassCounts, dict[str, Annotated]]:
    """Count the objects of a split without its crowds, and find the sizes and boxes of some images."""
    file = load_coco(open_detection_split(manifest, split).annotations)
    objects = [one for one in file.annotations if not one.iscrowd]
    counts = Counter(one.category_id for one in objects)
    wanted = set(paths)
    shown = {image.id: image for image in file.images if image.file_name in wanted}
    found: dict[int, list[list[float]]] = {number: [] for number in shown}
    for one in objects:
        if one.image_id in found:
            found[one.image_id].append(one.bbox)
    by_path = {
        shown[number].file_name: ((shown[number].width, shown[number].height), np.reshape(boxes, (-1, 4)))
        for number, boxes in found.items()
    }
    names, numbers = tuple(file.categories.values()), tuple(counts[number] for number in file.categories)
    return ClassCounts(names=names, counts=numbers), by_path


def sample_rows(labels: np.ndarray | None, number: int) -> np.ndarray:
    """Choose the sample images: at even distances, and with labels of as many classes as possible, class by class.

    Args:
        labels: (number,) int64, or None.
        number: number of images of the split.

    Returns:
        Rows (m,) int64, m at most 24.
    """
    if labels is None:
        return evenly(number, SAMPLES)
    present, counts = np.unique(labels, return_counts=True)
    chosen = evenly(len(present), SAMPLES)
    found = []
    for label, share in zip(present[chosen], _shares(counts[chosen]), strict=True):
        of_class = np.flatnonzero(labels == label)
        found.append(of_class[evenly(len(of_class), share)])
    return np.concatenate(found)


def evenly(number: int, most: int) -> np.ndarray:
    """Choose at most `most` of the indices 0 ... number - 1, at even distances."""
    taken = min(number, most)
    return np.arange(taken) * number // max(taken, 1)


def _shares(counts: np.ndarray) -> list[int]:
    """Number of sample images of each class: one more of each in turn, as long as it has more."""
    _turns, classes = np.nonzero(np.arange(SAMPLES)[:, None] < counts)
    shares: list[int] = np.bincount(classes[:SAMPLES], minlength=len(counts)).tolist()
    return shares


def _range(sides: np.ndarray) -> Range:
    return Range(least=int(sides.min()), median=float(np.median(sides)), greatest=int(sides.max()))


def _equal_images(one: ImageSet, other: ImageSet) -> dict[str, Any]:
    """Find images of the second split whose content the first one has, or an earlier one if both are the same split."""
    first: dict[bytes, int] = {}
    for row, content in enumerate(one.hashes):
        first.setdefault(content, row)
    found = ((first.get(content), row) for row, content in enumerate(other.hashes))
    pairs = [(there, here) for there, here in found if there is not None and (one is not other or there != here)]
    named = tuple((one.paths[there], other.paths[here]) for there, here in pairs[:PAIRS])
    return {"number": len(pairs), "pairs": named}


def _sample(images: ImageSet, row: int, annotated: Annotated | None) -> Sample:
    """Read an image and make it small, with its boxes if the split has any."""
    size, boxes = annotated or (None, None)
    pixels = _small(images, row, size)
    if size and boxes is not None:
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
        across, down = pixels.shape[1] / size[0], pixels.shape[0] / size[1]
        boxes = (corners * [across, down, across, down]).astype(np.float32)
    return Sample(pixels, "" if images.labels is None else images.classes[images.labels[row]], boxes)


def _small(images: ImageSet, row: int, size: tuple[int, int] | None) -> np.ndarray:
    """Read an image and reduce its longer side to 96 pixels, (h, w, 3) uint8; annotated upright, it is turned."""
    content, path = images.read(row), images.root / images.paths[row]
    if hashlib.sha256(content).digest() != images.hashes[row]:
        raise ScfsError(f"{path}: not the image that was prepared: run `scfs prepare {images.name}` again")
    most = max(MAX_PIXELS, int(images.widths[row]) * int(images.heights[row]))
    with refusing(f"{path}: cannot be decoded", ValueError), opened(content, most) as stored:
        upright = ImageOps.exif_transpose(stored) if size else stored
        image = (upright if upright.size == size else stored).convert("RGB")
    scale = SIDE / max(image.size)
    if scale < 1:
        width, height = (max(1, round(scale * side)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image)
