"""What a supervised run takes images, over-augmented crops and searched features for (the paper's Fig. 1)."""

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scfs import paths
from scfs.config.report import Figure as FigureSettings
from scfs.config.study import Study
from scfs.errors import ScfsError
from scfs.report.figures import canvas
from scfs.report.figures.attention import draw_overlay
from scfs.report.figures.series import LIGHT, UNTRAINED_LIGHT
from scfs.report.results import read_result

HEADING, CELL, GAP = 0.3, 1.45, 0.25
"""Heights in inches: column headings, a picture, the space below it."""
COLUMNS = ("over-augmented", "original", "searched")
ORDER = (1, 0, 2)
"""Places of the columns' samples in the arrays (scfs.evaluation.class_probabilities.SAMPLES)."""


@dataclass(frozen=True)
class Samples:
    """What the stage `class_probabilities` keeps for the figure, M images."""

    views: np.ndarray
    """The clean views (M, S, S, 3) uint8."""
    crops: np.ndarray
    """Their over-augmented crops (M, s, s, 3) uint8."""
    attention: np.ndarray
    """A of the crop's feature on the view (M, h, w): cosine similarities, may be negative."""
    top_classes: np.ndarray
    """Names of the likeliest classes of the original, the crop and the searched feature, (M, 3, 5)."""
    top_probabilities: np.ndarray
    """Their probabilities (M, 3, 5), falling."""
    true_classes: np.ndarray
    """Names of the images' classes (M,)."""


def draw_class_probabilities(study: Study, settings: FigureSettings) -> bytes:
    """PNG of a figure of the kind "class_probabilities", of the first of its runs that has arrays.

    Rows are images. Columns: the over-augmented crop, the view, and the crop's attention map laid over the view, each
    with its likeliest classes; the image's own class is coloured.

    Raises:
        ScfsError: no run has arrays, or they are of other weights.
    """
    samples = _read(study, settings)
    number = len(samples.views)
    with canvas.style():
        height = HEADING + number * (CELL + GAP)
        figure = Figure(figsize=(4.6 * CELL * 1.5, height))
        figure.subplots_adjust(0.002, GAP / height, 0.99, 1 - HEADING / height, wspace=0.06, hspace=GAP / CELL)
        grid = figure.subplots(number, 6, squeeze=False)
        for row, cells in enumerate(grid):
            _draw_pictures([cells[0], cells[2], cells[4]], samples, row)
            for axes, sample in zip(cells[1::2], ORDER, strict=True):
                _draw_bars(axes, samples, row, sample)
        for axes, title in zip(grid[0, ::2], COLUMNS, strict=True):
            axes.set_title(title, loc="center", color=canvas.EITHER_THEME)
        return canvas.png(figure, dpi=130)


def _read(study: Study, settings: FigureSettings) -> Samples:
    evaluation, runs = settings.evaluation, study.shown(settings)
    assert evaluation is not None
    for run in runs:
        file = paths.result(run, evaluation).with_suffix(".npz")
        if file.is_file():
            read_result(study, run, evaluation)  # it was written with the arrays: refuses those of other weights
            with np.load(file, allow_pickle=False) as arrays:
                return Samples(**{name: arrays[name] for name in Samples.__dataclass_fields__})
    file = paths.result(runs[0], evaluation).with_suffix(".npz")
    raise ScfsError(f"{file}: missing, and no other run has one: the stage class_probabilities writes it")


def _draw_pictures(cells: list[Axes], samples: Samples, row: int) -> None:
    for axes, pixels in zip(cells[:2], (samples.crops[row], samples.views[row]), strict=True):
        axes.imshow(pixels, interpolation="bicubic")
        axes.set_axis_off()
    draw_overlay(cells[2], samples.views[row], samples.attention[row])


def _draw_bars(axes: Axes, samples: Samples, row: int, sample: int) -> None:
    """Bars of the likeliest classes, the likeliest on top, with their names on them."""
    names, shares = samples.top_classes[row, sample], samples.top_probabilities[row, sample]
    places = np.arange(len(names))[::-1]
    colours = [LIGHT[0] if name == samples.true_classes[row] else UNTRAINED_LIGHT for name in names]
    axes.barh(places, shares, 0.42, color=colours)
    for place, name, share in zip(places, names, shares, strict=True):
        axes.text(0, place + 0.26, f"{name} {share:.2f}", va="bottom", fontsize=7.5, color=canvas.EITHER_THEME)
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.5, len(names) - 0.1)
    axes.set_axis_off()
