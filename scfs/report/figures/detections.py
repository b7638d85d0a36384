"""True and found boxes and masks on the same test images for all configurations, side by side."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from scfs import paths
from scfs.config.report import Figure as FigureSettings
from scfs.config.study import Study
from scfs.errors import ScfsError
from scfs.report.figures import canvas
from scfs.report.figures.detection_arrays import Detected, Objects, Picture, read_detected
from scfs.report.figures.labels import fitted, placed, text_width
from scfs.report.figures.series import series_of

SHOWN_SCORE = 0.5
"""Found objects of a lower score are not drawn."""
MOST_OBJECTS = 12
"""Objects drawn in a picture: the largest of the true ones, those of the greatest scores of the found ones."""
MOST_BESIDE = 3
"""Configurations beside the ground truth; of more, blocks of like size stand below one another, each with it."""
COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#cc79a7", "#d55e00", "#0072b2")
"""Okabe and Ito's colours, of which the common kinds of colour blindness tell each from the others."""
OPACITY = 0.42

WIDTH, WIDEST, TALLEST = 8.6, 2.8, 1.2
"""Inches of the figure and of a picture at most, and a picture's height at most, as a share of its width."""
HEADING, LINE, GAP = 0.3, 0.27, 0.07
"""Inches of a column's heading, of the line below a picture, and between two columns."""
FONT, NAME = 6.5, 62.0
"""Points of a label's text and of the longest name of a class in it."""
DPI = 150


def draw_detections(study: Study, settings: FigureSettings) -> bytes:
    """PNG of a figure of the kind "detections".

    Raises:
        ScfsError: a run's result or arrays are missing or stale, or two runs' are of different images.
    """
    with canvas.style():
        return canvas.png(compose(study, settings), dpi=DPI)


def compose(study: Study, settings: FigureSettings) -> Figure:
    """The figure: rows are images; columns the ground truth, and what each configuration's first run found.

    Raises:
        ScfsError: as draw_detections.
    """
    shown = _read_all(study, settings)
    pictures = shown[0][1].pictures
    colours = class_colours([detected for _, detected in shown])
    beside = math.ceil(len(shown) / math.ceil(len(shown) / MOST_BESIDE))
    blocks = [shown[start : start + beside] for start in range(0, len(shown), beside)]
    columns = 1 + len(blocks[0])
    cell = min(WIDEST, (WIDTH + GAP) / columns - GAP)
    heights = [cell * min(TALLEST, picture.pixels.shape[0] / picture.pixels.shape[1]) for picture in pictures]
    block_height = HEADING + sum(heights) + LINE * len(heights)
    figure = Figure(figsize=(columns * (cell + GAP) - GAP, len(blocks) * block_height))
    for number, block in enumerate(blocks):
        top = number * block_height
        for column, label in enumerate(["ground truth", *(label for label, _ in block)]):
            _write(figure, fitted(label, 72 * cell, 9.5, bold=True), column, cell, top + 0.6 * HEADING, 9.5, "bold")
        top += HEADING
        for row, height in enumerate(heights):
            sides = [pictures[row].truth, *(detected.pictures[row].found for _, detected in block)]
            for column, objects in enumerate(sides):
                axes = _add_axes(figure, pictures[row], column, cell, top, height)
                drawn, said = chosen(objects)
                draw_objects(axes, pictures[row].pixels, drawn, shown[0][1].classes, colours)
                _write(figure, said, column, cell, top + height + 0.4 * LINE, 7.5)
            top += height + LINE
    return figure


def _read_all(study: Study, settings: FigureSettings) -> list[tuple[str, Detected]]:
    """Label and detections of each configuration."""
    evaluation = settings.evaluation
    assert evaluation is not None
    shown: list[tuple[str, Detected]] = []
    for series in series_of(study, study.shown(settings)):
        detected = read_detected(study, series.runs[0], evaluation)
        if shown and not _same_images(shown[0][1], detected):
            path = paths.result(series.runs[0], evaluation).with_suffix(".npz")
            raise ScfsError(f"{path}: shows other images than the first run's: run the stage detection again")
        shown.append((series.label, detected))
    return shown


def _same_images(one: Detected, other: Detected) -> bool:
    if one.classes != other.classes or len(one.pictures) != len(other.pictures):
        return False
    pairs = zip(one.pictures, other.pictures, strict=True)
    return all(np.array_equal(first.pixels, second.pixels) for first, second in pairs)


def chosen(objects: Objects) -> tuple[Objects, str]:
    """The objects that are drawn, the greatest last, and a line that says how many they are."""
    if objects.scores is None:
        number = len(objects.boxes)
        sides = objects.boxes[:, 2:] - objects.boxes[:, :2]
        order = np.argsort(-sides.prod(axis=1), kind="stable")[:MOST_OBJECTS]
        left_out = f"{MOST_OBJECTS} largest of " if number > MOST_OBJECTS else ""
        return objects.taken(order), f"{left_out}{number} object{'' if number == 1 else 's'}"
    order = np.argsort(-objects.scores, kind="stable")
    order = order[objects.scores[order] >= SHOWN_SCORE]
    number = len(order)
    if not number:
        best = f": greatest score {objects.scores.max():.2f}" if len(objects.scores) else ""
        return objects.taken(order), f"none found{best}"
    surest = f"{MOST_OBJECTS} surest of " if number > MOST_OBJECTS else ""
    return objects.taken(order[:MOST_OBJECTS]), f"{surest}{number} found"


def class_colours(shown: Sequence[Detected]) -> dict[int, str]:
    """A colour for every class that is drawn; with more classes than colours they begin anew, and the names tell."""
    drawn = sorted({index for objects in _sides(shown) for index in chosen(objects)[0].classes.tolist()})
    return {index: COLOURS[place % len(COLOURS)] for place, index in enumerate(drawn)}


def _sides(shown: Sequence[Detected]) -> Iterator[Objects]:
    for picture in (picture for detected in shown for picture in detected.pictures):
        yield picture.truth
        yield picture.found


def _write(
    figure: Figure, text: str, column: int, cell: float, top: float, size: float, weight: str = "normal"
) -> None:
    """A line in the middle of a column, at so many inches from the top."""
    width, height = figure.get_size_inches()
    figure.text(
        (column * (cell + GAP) + cell / 2) / width,
        1 - top / height,
        text,
        ha="center",
        va="center",
        fontsize=size,
        weight=weight,
        color=canvas.EITHER_THEME,
        parse_math=False,
    )


def _add_axes(figure: Figure, picture: Picture, column: int, cell: float, top: float, height: float) -> Axes:
    """Axes of the picture's proportions, in the middle of their column."""
    width = min(cell, height * picture.pixels.shape[1] / picture.pixels.shape[0])
    left = column * (cell + GAP) + (cell - width) / 2
    whole_width, whole_height = figure.get_size_inches()
    place = (left / whole_width, 1 - (top + height) / whole_height, width / whole_width, height / whole_height)
    return figure.add_axes(place)


def draw_objects(
    axes: Axes, pixels: np.ndarray, objects: Objects, classes: Sequence[str], colours: dict[int, str]
) -> None:
    """Draw an image (H, W, 3) with boxes, masks and labels, in the order of `objects`, the first one on top."""
    height, width = pixels.shape[:2]
    extent = (0, width, height, 0)
    figure = axes.get_figure(root=True)
    assert figure is not None
    inches = axes.get_position().width * figure.get_size_inches()[0]
    smooth = "bicubic" if width < DPI * inches else "antialiased"
    axes.imshow(pixels, extent=extent, interpolation=smooth)
    axes.set_axis_off()
    for index in reversed(range(len(objects.boxes))):
        colour = to_rgb(colours[int(objects.classes[index])])
        if objects.masks is not None:
            tint = np.empty((height, width, 4), np.float32)
            tint[..., :3], tint[..., 3] = colour, OPACITY * objects.masks[index]
            axes.imshow(tint, extent=extent, interpolation="bilinear")
        left, top, right, bottom = objects.boxes[index]
        for line, edge in ((2.6, (0, 0, 0, 0.55)), (1.4, colour)):  # dark below, so that it shows on any ground
            axes.add_patch(
                Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=edge, linewidth=line)
            )
    _draw_labels(axes, objects, classes, colours, (width, height), width / (72 * inches))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)


def _draw_labels(
    axes: Axes,
    objects: Objects,
    classes: Sequence[str],
    colours: dict[int, str],
    room: tuple[int, int],
    point: float,
) -> None:
    """Names, and scores of found objects, on tabs of their colour.

    Args:
        axes: of the picture.
        objects: N of them.
        classes: names of all classes.
        colours: by index of the class.
        room: width and height of the image in pixels.
        point: its pixels in a point of text.
    """
    standing: list[tuple[float, float, float, float]] = []
    for index, box in enumerate(objects.boxes.tolist()):
        colour = colours[int(objects.classes[index])]
        name = fitted(classes[int(objects.classes[index])], NAME, FONT)
        text = name if objects.scores is None else f"{name} {objects.scores[index]:.2f}"
        size = ((text_width(text, FONT) + 4) * point, (FONT + 3) * point)
        left, top, right, bottom = placed(tuple(box), size, room, standing)
        standing.append((left, top, right, bottom))
        axes.add_patch(
            Rectangle((left, top), right - left, bottom - top, color=colour, alpha=0.92, linewidth=0, zorder=3)
        )
        axes.text(
            (left + right) / 2,
            (top + bottom) / 2,
            text,
            ha="center",
            va="center_baseline",
            fontsize=FONT,
            color=ink_on(colour),
            zorder=4,
            parse_math=False,
        )


def ink_on(colour: str) -> str:
    """Black or white, whichever stands out more from a colour (contrast of WCAG 2.1)."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(colour)]
    luminance = float(np.dot(linear, (0.2126, 0.7152, 0.0722)))
    return "#000000" if (luminance + 0.05) / 0.05 >= 1.05 / (luminance + 0.05) else "#ffffff"
