"""The data sets on the report's page: numbers, some images with their boxes, and how many there are of each class."""

from collections.abc import Iterator
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scfs import paths
from scfs.config.identity import prepare_identity
from scfs.config.study import Study
from scfs.errors import ScfsError
from scfs.io.dataset_stats import ClassCounts, DatasetStats, Sample, SplitStats
from scfs.report import canvas
from scfs.report.embed import inline_png, inline_svg
from scfs.report.plot_styles import LIGHT

COLUMNS, CELL, GAP = 12, 96, 4
"""Images beside one another; pixels of a cell's side and between cells."""
HEADING, LABEL = 34, 17
"""Pixels of the line above a split and of the one below an image."""
DPI = 144
"""Pixels of an image are those of the PNG; a point of text is two of them."""
BOX = "#e69f00"
MOST_BARS = 40
"""With more classes than this, the counts are a curve."""
CURVE = 10
"""Height of the curve, in bars."""
PANELS = 3
"""Histograms beside one another."""
UNDER_IMAGE, BESIDE_BAR = 14, 22
"""Letters of the longest name of a class below an image, and beside a bar."""


def dataset_cards(study: Study) -> Iterator[dict[str, Any]]:
    """Give what the page shows of every data set of a study: what was found in it, and pictures.

    Raises:
        ScfsError: see `read_stats`.
    """
    for name in study.data:
        stats = read_stats(study, name)
        with canvas.style():
            contact = canvas.saved(compose_contact(stats), "png", dpi=DPI)
            pictures = [inline_png(contact, f"{name}: some images of each split")]
            if histogram := compose_histogram(stats):
                drawing = canvas.saved(histogram, "svg")
                pictures.append(inline_svg(drawing, f"data-{name}", f"{name}: classes"))
        yield {"stats": stats, "pictures": pictures}


def read_stats(study: Study, dataset: str) -> DatasetStats:
    """Read what the stage `inspect` wrote of a data set of the study.

    Raises:
        ScfsError: a file is missing or damaged, or is of other settings of the data set than the study's.
    """
    path = paths.inspection(dataset)
    stats = DatasetStats.read(path)
    if stats.identity != prepare_identity(study, dataset):
        raise ScfsError(
            f"{path}: of other settings than the study's data.{dataset}: "
            "run the stages prepare and inspect of this data set again"
        )
    return stats


def counts_of(split: SplitStats) -> tuple[str, ClassCounts] | None:
    """Images of each class; objects where images have no classes; None without both."""
    if split.classes is not None:
        return "images", split.classes
    return None if split.objects is None else ("objects", split.objects)


def extent(*rising: float) -> str:
    """Write numbers with dashes between them, or a single one if they are equal."""
    shown = rising[:1] if rising[0] == rising[-1] else rising
    return " – ".join(f"{number:,.10g}" for number in shown)


def compose_contact(stats: DatasetStats) -> Figure:
    """Compose the contact sheet, split by split; small images are enlarged. The axes count its pixels."""
    width, top = COLUMNS * (CELL + GAP) - GAP, 0
    figure = canvas.blank(width / DPI, 1, layout=None)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    for split in stats.splits:
        step = CELL + GAP + (LABEL if split.classes else 0)
        said = f"{split.split}: {len(split.samples)} of {split.images:,} images"
        canvas.write(axes, 0, top + HEADING / 2, said, fontsize=9, va="center", weight="bold")
        for place, sample in enumerate(split.samples):
            row, column = divmod(place, COLUMNS)
            _place(axes, sample, column * (CELL + GAP), top + HEADING + row * step)
        top += HEADING + step * -(-len(split.samples) // COLUMNS)
    axes.set(xlim=(0, width), ylim=(top, 0))
    figure.set_size_inches(width / DPI, top / DPI)
    return figure


def _place(axes: Axes, sample: Sample, left: int, top: int) -> None:
    """Put an image into the middle of its cell, with its boxes, and its class below it."""
    factor = max(1, CELL // max(sample.pixels.shape[:2]))  # each pixel of a small image becomes a square of pixels
    height, width = (factor * side for side in sample.pixels.shape[:2])
    x, y = left + (CELL - width) // 2, top + (CELL - height) // 2
    axes.imshow(sample.pixels, extent=(x, x + width, y + height, y), interpolation="none", aspect="auto")
    for box in [] if sample.boxes is None else sample.boxes * factor + [x, y, x, y]:
        canvas.outline(axes, box, BOX, 0.8)
    if sample.name:
        name, below = canvas.shortened(sample.name, UNDER_IMAGE), top + CELL + LABEL / 2
        canvas.write(axes, left + CELL / 2, below, name, fontsize=6, ha="center", va="center")


def compose_histogram(stats: DatasetStats) -> Figure | None:
    """Compose a panel for each split that has classes: bars for up to 40 of them, else their counts as a falling curve.

    None if no split has classes.
    """
    panels = [(split.split, *counted) for split in stats.splits if (counted := counts_of(split))]
    if not panels:
        return None
    columns = min(PANELS, len(panels))
    rows = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    numbers = ([len(counts.names) for _, _, counts in row] for row in rows)
    bars = [max(number if number <= MOST_BARS else CURVE for number in row) for row in numbers]
    heights = [0.45 + 0.17 * number for number in bars]
    figure = canvas.blank(8.6, sum(heights))
    cells = canvas.panels(figure, len(panels), columns, height_ratios=heights)
    for place, (axes, (name, what, counts)) in enumerate(zip(cells, panels, strict=True)):
        axes.set_title(f"{name}: {what} per class", fontsize=8.5, parse_math=False)
        if len(counts.names) <= MOST_BARS:
            _draw_bars(axes, counts, bars[place // columns])
        else:
            _draw_curve(axes, counts)
    return figure


def _draw_bars(axes: Axes, counts: ClassCounts, most: int) -> None:
    """Draw a bar for each class, as thick as in a panel of `most` bars."""
    places = range(len(counts.names))
    bars = axes.barh(places, counts.counts, 0.72, color=LIGHT[0])
    axes.bar_label(bars, [f"{number:,}" for number in counts.counts], padding=2, fontsize=7, color=canvas.QUIET)
    names = [canvas.shortened(name, BESIDE_BAR) for name in counts.names]
    axes.set_yticks(places, names, fontsize=7.5, parse_math=False)
    axes.set_ylim(most - 0.4, -0.6)
    axes.set_xticks([])
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    axes.margins(x=0.18)


def _draw_curve(axes: Axes, counts: ClassCounts) -> None:
    """Draw the counts from the greatest to the least, and name the classes at both ends."""
    falling = sorted(zip(counts.counts, counts.names), key=lambda one: -one[0])
    axes.plot(range(1, len(falling) + 1), [number for number, _ in falling], color=LIGHT[0])
    axes.set_ylim(0, 1.1 * max(1, falling[0][0]))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.tick_params(labelsize=7.5)
    greatest, least = (f"{canvas.shortened(falling[end][1], BESIDE_BAR)} ({falling[end][0]:,})" for end in (0, -1))
    said = f"{len(falling):,} classes: from {greatest}\nto {least}"
    axes.set_xlabel(said, fontsize=8, parse_math=False)
