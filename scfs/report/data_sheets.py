"""A data set on a page: some of its images with their boxes, how many there are of each class, and numbers."""

import json
from dataclasses import dataclass
from typing import Any
from zipfile import BadZipFile

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from scfs import paths
from scfs.config.identity import prepare_identity
from scfs.config.study import Study
from scfs.errors import ScfsError
from scfs.report.figures import canvas
from scfs.report.figures.labels import fitted
from scfs.report.figures.series import LIGHT

COLUMNS, CELL, GAP = 12, 96, 4
"""Images beside one another; pixels of a cell's side and between cells."""
HEADING, LABEL = 34, 17
"""Pixels of the line above a split and of the one below an image."""
DPI = 144
"""Pixels of an image are those of the PNG; a point of text is two of them."""
BOX = "#e69f00"
MOST_BARS = 40
"""Of more classes, the counts are a curve."""
CURVE = 10
"""Height of the curve, in bars."""
PANELS = 3
"""Histograms beside one another."""
NAME = 95.0
"""Points of the longest name of a class beside a bar."""


@dataclass(frozen=True)
class Counts:
    """How many there are of each class."""

    what: str
    """"images" or "objects"."""
    names: tuple[str, ...]
    numbers: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Small:
    """An image of the contact sheet."""

    pixels: np.ndarray
    """(h, w, 3) uint8."""
    name: str
    """Its class; empty without labels."""
    boxes: np.ndarray | None
    """Corners x0 y0 x1 y1 in its pixels (N, 4), where the split has boxes."""


@dataclass(frozen=True, eq=False)
class Split:
    """A split of a data set."""

    name: str
    numbers: dict[str, Any]
    """As the stage wrote them, see `scfs.data.inspection`."""
    images: tuple[Small, ...]

    @property
    def counts(self) -> Counts | None:
        """Images of each class; objects where images have none; None without both."""
        for key, what in (("classes", "images"), ("objects", "objects")):
            found = self.numbers[key]
            if found is not None:
                return Counts(what, tuple(found["names"]), tuple(found["counts"]))
        return None


@dataclass(frozen=True, eq=False)
class Inspected:
    """A data set."""

    name: str
    splits: tuple[Split, ...]
    between: tuple[dict[str, Any], ...]
    """Images that two splits share, as the stage wrote them."""


def read_inspected(study: Study, dataset: str) -> Inspected:
    """Read the inspection of a data set of the study.

    Raises:
        ScfsError: a file is missing or damaged, or is of other settings of the data set than the study's.
    """
    path = paths.inspection(dataset)
    arrays = path.with_suffix(".npz")
    for file in (path, arrays):
        if not file.is_file():
            raise ScfsError(f"{file}: missing: the stage inspect of data set {dataset} writes it")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["identity"] != prepare_identity(study, dataset):
            raise ScfsError(
                f"{path}: of other settings than the study's data.{dataset}: "
                "run the stages prepare and inspect of this data set again"
            )
        with np.load(arrays, allow_pickle=False) as pictures:
            splits = tuple(Split(one["split"], one, _images(pictures, one["split"])) for one in found["splits"])
        return Inspected(dataset, splits, tuple(found["between"]))
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise ScfsError(f"{path} or {arrays.name}: not what the stage inspect writes: {error!r}") from None


def _images(arrays: Any, split: str) -> tuple[Small, ...]:
    names = arrays[f"{split}/names"].tolist()
    found: list[Small] = []
    while f"{split}/image_{len(found)}" in arrays:
        number = len(found)
        boxes = arrays.get(f"{split}/boxes_{number}")
        found.append(Small(arrays[f"{split}/image_{number}"], names[number] if names else "", boxes))
    return tuple(found)


@dataclass(frozen=True)
class Sheet:
    """A data set's part of the page."""

    name: str
    rows: list[dict[str, str]]
    """Numbers of each split, written out."""
    warnings: list[str]
    """Images that are in two splits."""
    contact: bytes
    """PNG."""
    histogram: bytes | None
    """SVG; None where no split has classes."""


def data_sheets(study: Study) -> list[Sheet]:
    """Every data set of a study.

    Raises:
        ScfsError: see `scfs.report.data_sheets.read_inspected`.
    """
    return [_sheet(read_inspected(study, dataset)) for dataset in study.data]


def _sheet(found: Inspected) -> Sheet:
    rows = [numbers_of(split) for split in found.splits]
    return Sheet(found.name, rows, shared_images(found), draw_contact(found), draw_histogram(found))


def numbers_of(split: Split) -> dict[str, str]:
    """Numbers of a split as the page writes them."""
    numbers, counts = split.numbers, split.counts
    digest = numbers["digest"]
    return {
        "split": split.name,
        "images": f"{numbers['images']:,}",
        "classes": "–" if counts is None else f"{len(counts.names):,}",
        "per class": "–" if counts is None else f"{_range(min(counts.numbers), max(counts.numbers))} {counts.what}",
        "width": _extent(numbers["width"]),
        "height": _extent(numbers["height"]),
        "duplicates": f"{numbers['duplicates']['number']:,}",
        "left out": f"{numbers['left_out']:,}",
        "digest": digest[:12],
    }


def shared_images(found: Inspected) -> list[str]:
    """A line for every two splits that share images."""
    lines = []
    for pair in (pair for pair in found.between if pair["number"]):
        (one, other), number = pair["splits"], pair["number"]
        said = "1 image is" if number == 1 else f"{number:,} images are"
        lines.append(f"{found.name}: {said} both in {one} and in {other}, such as {' = '.join(pair['pairs'][0])}")
    return lines


def _extent(sides: dict[str, float]) -> str:
    least, middle, greatest = sides["least"], sides["median"], sides["greatest"]
    return f"{least:,}" if least == greatest else f"{least:,} – {middle:,.10g} – {greatest:,}"


def _range(least: int, greatest: int) -> str:
    return f"{least:,}" if least == greatest else f"{least:,} – {greatest:,}"


def draw_contact(found: Inspected) -> bytes:
    """PNG with the contact sheet: split by split, rows of images in their own pixels; small ones are enlarged."""
    with canvas.style():
        return canvas.png(compose_contact(found), dpi=DPI)


def compose_contact(found: Inspected) -> Figure:
    """The figure of the contact sheet, whose axes count its pixels."""
    blocks = [(split, _rows([_enlarged(image) for image in split.images])) for split in found.splits]
    width = COLUMNS * (CELL + GAP) - GAP
    height = sum(HEADING + sum(_row_height(row) + GAP for row in rows) for _, rows in blocks)
    figure = Figure(figsize=(width / DPI, height / DPI))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    ground, top = np.zeros((height, width, 4), np.uint8), 0
    for split, rows in blocks:
        _write(axes, _heading(split), 0, top + HEADING / 2, 9, ha="left", weight="bold")
        top += HEADING
        for row in rows:
            for column, image in enumerate(row):
                _place(axes, ground, image, column * (CELL + GAP), top, _picture_height(row))
            top += _row_height(row) + GAP
    axes.imshow(ground, extent=(0, width, height, 0), interpolation="none", aspect="auto")
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    return figure


def _heading(split: Split) -> str:
    return f"{split.name}: {len(split.images)} of {split.numbers['images']:,} images"


def _rows(images: list[Small]) -> list[list[Small]]:
    return [images[start : start + COLUMNS] for start in range(0, len(images), COLUMNS)]


def _picture_height(row: list[Small]) -> int:
    return max(image.pixels.shape[0] for image in row)


def _row_height(row: list[Small]) -> int:
    return _picture_height(row) + (LABEL if row[0].name else 0)


def _enlarged(image: Small) -> Small:
    """A small image with each pixel as a square of as many as fit."""
    factor = max(1, CELL // max(image.pixels.shape[:2]))
    boxes = None if image.boxes is None else image.boxes * factor
    return Small(image.pixels.repeat(factor, axis=0).repeat(factor, axis=1), image.name, boxes)


def _place(axes: Axes, ground: np.ndarray, image: Small, left: int, top: int, row: int) -> None:
    """Put an image into the middle of its cell, whose pictures are `row` pixels high; its boxes, its class below."""
    height, width = image.pixels.shape[:2]
    x, y = left + (CELL - width) // 2, top + (row - height) // 2
    ground[y : y + height, x : x + width, :3] = image.pixels
    ground[y : y + height, x : x + width, 3] = 255
    for x0, y0, x1, y1 in [] if image.boxes is None else image.boxes.tolist():
        for line, colour in ((1.6, (0, 0, 0, 0.55)), (0.8, BOX)):  # dark below, so that it shows on any ground
            axes.add_patch(Rectangle((x + x0, y + y0), x1 - x0, y1 - y0, fill=False, edgecolor=colour, linewidth=line))
    if image.name:
        _write(axes, fitted(image.name, CELL / 2, 6), left + CELL / 2, top + row + LABEL / 2, 6, ha="center")


def _write(axes: Axes, text: str, x: float, y: float, size: float, **options: Any) -> None:
    axes.text(x, y, text, va="center", fontsize=size, color=canvas.EITHER_THEME, parse_math=False, **options)


def draw_histogram(found: Inspected) -> bytes | None:
    """SVG with a panel for each split that has classes; None if none has."""
    panels = [(split.name, split.counts) for split in found.splits if split.counts is not None]
    if not panels:
        return None
    with canvas.style():
        return canvas.svg(compose_histogram(panels))


def compose_histogram(panels: list[tuple[str, Counts]]) -> Figure:
    """The figure: bars for up to 40 classes, else a curve of the counts from the greatest to the least."""
    columns = min(PANELS, len(panels))
    rows = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    lines = [max(_lines(counts) for _, counts in row) for row in rows]
    heights = [0.45 + 0.17 * number for number in lines]
    figure = Figure(figsize=(8.6, sum(heights)), layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False, height_ratios=heights)
    for axes in grid.ravel()[len(panels) :]:
        axes.set_axis_off()
    for row, cells, number in zip(rows, grid, lines):
        for axes, (name, counts) in zip(cells, row):
            axes.set_title(f"{name}: {counts.what} per class", fontsize=8.5, parse_math=False)
            if len(counts.names) <= MOST_BARS:
                _draw_bars(axes, counts, number)
            else:
                _draw_curve(axes, counts)
    return figure


def _lines(counts: Counts) -> int:
    """Height of a panel, in bars."""
    return len(counts.names) if len(counts.names) <= MOST_BARS else CURVE


def _draw_bars(axes: Axes, counts: Counts, most: int) -> None:
    """One below the other, as thick as where there are `most` of them."""
    places = range(len(counts.names))
    bars = axes.barh(places, counts.numbers, 0.72, color=LIGHT[0])
    axes.bar_label(bars, [f"{number:,}" for number in counts.numbers], padding=2, fontsize=7, color=canvas.QUIET)
    axes.set_yticks(places, [fitted(name, NAME, 7.5) for name in counts.names], fontsize=7.5)
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    axes.set_ylim(most - 0.4, -0.6)
    axes.set_xticks([])
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    axes.margins(x=0.18)


def _draw_curve(axes: Axes, counts: Counts) -> None:
    """The counts in order; the classes at both ends are named below."""
    order = sorted(range(len(counts.names)), key=lambda place: (-counts.numbers[place], place))
    numbers = [counts.numbers[place] for place in order]
    axes.plot(range(1, len(numbers) + 1), numbers, color=LIGHT[0])
    axes.set_ylim(0, 1.1 * max(1, *numbers))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.tick_params(labelsize=7.5)
    greatest, least = (f"{fitted(counts.names[order[end]], NAME, 8)} ({numbers[end]:,})" for end in (0, -1))
    said = f"{len(numbers):,} classes: from {greatest}\nto {least}"
    axes.set_xlabel(said, fontsize=8, parse_math=False)
