"""Precision over recall of detections at IoU 0.5: a small panel per class, a line per configuration."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from scfs import paths
from scfs.config.report import Figure as FigureSettings
from scfs.config.study import Study
from scfs.errors import ScfsError
from scfs.report.figures import canvas
from scfs.report.figures.detection_arrays import Curves, read_curves
from scfs.report.figures.labels import fitted
from scfs.report.figures.series import Series, series_of

MOST_PANELS = 20
"""With more classes than this: their mean, and those of the greatest and the least average precision."""
BEST, WORST = 4, 5
COLUMNS = 5
MOST_NUMBERED = 4
"""With more lines than this in a panel, their numbers would hide them."""
TITLE = 135.0
"""Points of the longest name of a class."""

Drawn = list[tuple[Series, Curves]]


@dataclass(frozen=True)
class Panel:
    """One set of axes."""

    title: str
    classes: tuple[int, ...]
    """Indices of the classes whose mean it shows."""


def draw_precision_recall(study: Study, settings: FigureSettings) -> bytes:
    """SVG of a figure of the kind "precision_recall".

    Raises:
        ScfsError: a run's result or arrays are missing or stale, or two runs' are of different classes.
    """
    with canvas.style():
        return canvas.svg(compose(study, settings))


def compose(study: Study, settings: FigureSettings) -> Figure:
    """The figure: boxes as solid lines, masks as dashed ones; means over seeds.

    Raises:
        ScfsError: as draw_precision_recall.
    """
    drawn = _read_all(study, settings)
    panels = panels_of([curves for _, curves in drawn])
    rows = math.ceil(len(panels) / COLUMNS)
    figure = Figure(figsize=(11, 0.75 + 1.85 * rows), layout="constrained")
    grid = figure.subplots(rows, COLUMNS, squeeze=False, sharex=True, sharey=True).ravel()
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    for axes, panel in zip(grid, panels):
        _draw_panel(axes, panel, drawn)
    figure.supxlabel("recall", fontsize=9, color=canvas.QUIET)
    figure.supylabel("precision", fontsize=9, color=canvas.QUIET)
    _legend(figure, drawn)
    return figure


def _read_all(study: Study, settings: FigureSettings) -> Drawn:
    """Each configuration with the mean curves of its runs."""
    evaluation = settings.evaluation
    assert evaluation is not None
    drawn: Drawn = []
    for series in series_of(study, study.shown(settings)):
        found = []
        for run in series.runs:
            curves = read_curves(study, run, evaluation)
            first = drawn[0][1] if drawn else curves
            if curves.classes != first.classes or not np.array_equal(curves.recall, first.recall):
                path = paths.result(run, evaluation).with_suffix(".npz")
                raise ScfsError(f"{path}: shows other classes than the first run's: run the stage detection again")
            found.append(curves)
        drawn.append((series, _mean(found)))
    if not _with_objects([curves for _, curves in drawn]):
        path = paths.result(drawn[0][0].runs[0], evaluation).with_suffix(".npz")
        raise ScfsError(f"{path}: precision: no class has objects in the test split")
    return drawn


def _mean(found: Sequence[Curves]) -> Curves:
    """Mean precision at each recall, whose average is the mean of the average precisions."""
    masks = [curves.masks for curves in found if curves.masks is not None]
    return Curves(
        found[0].classes,
        found[0].recall,
        np.mean([curves.boxes for curves in found], axis=0),
        np.mean(masks, axis=0) if masks else None,
    )


def panels_of(found: Sequence[Curves]) -> list[Panel]:
    """A panel per class with objects; of more than 20 classes their mean and the 4 best and 5 worst in AP of boxes.

    Best and worst go by the mean over the configurations.
    """
    names, shown = found[0].classes, _with_objects(found)
    if len(shown) <= MOST_PANELS:
        return [Panel(names[index], (index,)) for index in shown]
    precision = np.mean([curves.boxes.mean(axis=1) for curves in found], axis=0)
    ranked = sorted(shown, key=lambda index: -precision[index])
    best = [Panel(names[index], (index,)) for index in [*ranked[:BEST], *ranked[-WORST:]]]
    return [Panel(f"mean of {len(shown)} classes", tuple(shown)), *best]


def _with_objects(found: Sequence[Curves]) -> list[int]:
    return [index for index in range(len(found[0].classes)) if all(curves.boxes[index].min() >= 0 for curves in found)]


def _draw_panel(axes: Axes, panel: Panel, drawn: Drawn) -> None:
    axes.set_title(fitted(panel.title, TITLE, 9.5, bold=True), parse_math=False)
    averages: list[list[float]] = []
    for place, (series, curves) in enumerate(drawn):
        averages.append([])
        for values, line in ((curves.boxes, "-"), (curves.masks, "--")):
            if values is not None:
                precision = values[list(panel.classes)].mean(axis=0)
                averages[-1].append(float(precision.mean()))
                axes.plot(
                    curves.recall,
                    precision,
                    line,
                    color=series.colour,
                    linewidth=1.4,
                    marker=series.marker,
                    markersize=3.6,
                    # Each series' markers stand elsewhere, so that lines one above the other can be told.
                    markevery=(3 + 5 * place % 25, 25),
                )
    if len(drawn) <= MOST_NUMBERED:
        _write_averages(axes, averages, [series.colour for series, _ in drawn])
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.03)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.tick_params(labelbottom=True)  # of every row: the last one need not be full


def _write_averages(axes: Axes, averages: list[list[float]], colours: list[str]) -> None:
    """AP50 in percent, of boxes / of masks, a line per series: below long curves, or above short ones."""
    below = np.mean(averages) > 0.45
    for place, (numbers, colour) in enumerate(zip(averages, colours, strict=True)):
        axes.annotate(
            " / ".join(f"{100 * number:.1f}" for number in numbers),
            (0.04, 0.05) if below else (0.98, 0.97),
            xycoords="axes fraction",
            xytext=(0, 10 * (len(averages) - 1 - place) if below else -10 * place),
            textcoords="offset points",
            ha="left" if below else "right",
            va="bottom" if below else "top",
            fontsize=7.5,
            color=colour,
        )


def _legend(figure: Figure, drawn: Drawn) -> None:
    handles = [Line2D([], [], color=s.colour, marker=s.marker, markersize=5, label=s.label) for s, _ in drawn]
    if any(curves.masks is not None for _, curves in drawn):
        handles.append(Line2D([], [], color=canvas.QUIET, label="boxes"))
        handles.append(Line2D([], [], color=canvas.QUIET, linestyle="--", label="masks"))
    figure.legend(handles=handles, loc="outside upper left", ncols=6, handlelength=2.6)
