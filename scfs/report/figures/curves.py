"""Training curves: one panel per quantity, one line per run."""

import math
import re
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from scfs.config.report import Figure as FigureSettings
from scfs.config.study import Study
from scfs.report.figures import canvas
from scfs.report.figures.series import Series, series_of
from scfs.report.results import PRETRAIN, read_result

Curve = dict[str, list[float]]
Drawn = list[tuple[Series, list[Curve]]]

LAYER_TERM = re.compile(r"loss_(layer\d)_(\w+)")
TITLES = {
    "loss": "Total loss",
    "data_over_ln_k": "Data loss / ln K",
    "entropy_over_ln_k": "Teacher entropy / ln K",
    "lr": "Learning rate",
    "center_norm": "Norm of the centre",
}
SHARES = {"loss_data": "data_over_ln_k", "teacher_entropy": "entropy_over_ln_k"}
"""Terms that are drawn as shares of ln K: of the prototypes, or of the classes of a supervised run."""
COLUMNS = 4
MARKED_EPOCHS = 24
"""Epochs up to which every point has a marker; a single epoch would otherwise be invisible."""


def draw_curves(study: Study, settings: FigureSettings) -> bytes:
    """SVG of all runs' curves over epochs; random weights (epochs 0) have none and are left out."""
    drawn: Drawn = []
    for series in series_of(study, study.shown(settings)):
        curves = [_curve(read_result(study, run, PRETRAIN)) for run in series.runs]
        if any(curves):
            drawn.append((series, [curve for curve in curves if curve]))
    panels = _panels(drawn)
    rows = max(1, math.ceil(len(panels) / COLUMNS))
    with canvas.style():
        figure = Figure(figsize=(11, 0.5 + 2.2 * rows), layout="constrained")
        grid = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        for axes, (title, terms) in zip(grid, panels.items()):
            _draw_panel(axes, title, terms, drawn)
        if drawn:
            _legend(figure, drawn, layered=any(len(terms) > 1 for terms in panels.values()))
        else:
            figure.text(0.5, 0.5, "No run of this study was trained.", ha="center")
        return canvas.svg(figure)


def _curve(result: dict[str, Any]) -> Curve:
    """The recorded curve, with data loss and teacher's entropy as shares of the run's own ln K; {} if not trained."""
    curve: Curve = dict(result["curve"])
    if not curve.get("epoch"):
        return {}
    for term, share in SHARES.items():
        if term in curve:
            curve[share] = [value / result["ln_k"] for value in curve.pop(term)]
    return curve


def _panels(drawn: Drawn) -> dict[str, list[str]]:
    """Terms of each panel by its title: known ones first, a layer's two terms in one panel, then whatever is new."""
    names = dict.fromkeys(name for _, curves in drawn for curve in curves for name in curve)
    panels = {title: [name] for name, title in TITLES.items() if name in names and name != "center_norm"}
    for name in sorted(names.keys() - {"epoch", "step"} - TITLES.keys()):
        layer = LAYER_TERM.fullmatch(name)
        panels.setdefault(f"Loss of {layer[1]}" if layer else name.replace("_", " "), []).append(name)
    if "center_norm" in names:
        panels[TITLES["center_norm"]] = ["center_norm"]
    return panels


def _draw_panel(axes: Axes, title: str, terms: list[str], drawn: Drawn) -> None:
    axes.set_title(title)
    for index, (series, curves) in enumerate(drawn):
        # Schedules of different runs often coincide: a wider line below shows on both sides of the one above it.
        width = 1.6 + 2.0 * (len(drawn) - 1 - index) if terms == ["lr"] else 1.6
        for curve in curves:
            for term in terms:
                if term in curve:
                    short = len(curve["epoch"]) <= MARKED_EPOCHS and terms != ["lr"]
                    axes.plot(
                        curve["epoch"],
                        curve[term],
                        color=series.colour,
                        linewidth=width,
                        linestyle=_line(term),
                        marker=series.marker if short or len(curve["epoch"]) == 1 else None,
                        markersize=3.6,
                    )
    if title.endswith("/ ln K"):
        axes.axhline(1, color=canvas.INK, linewidth=0.9, linestyle=(0, (1, 2)))
        axes.annotate("ln K", (1, 1), xycoords=("axes fraction", "data"), xytext=(0, 2), textcoords="offset points",
                      ha="right", va="bottom", fontsize=8)  # fmt: skip
    if title == TITLES["entropy_over_ln_k"]:
        axes.set_ylim(0, 1.12)
    elif terms == ["lr"]:
        axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel("epoch")


def _line(term: str) -> str:
    return "--" if term.endswith("_global") else "-"


def _legend(figure: Figure, drawn: Drawn, layered: bool) -> None:
    handles = [Line2D([], [], color=s.colour, marker=s.marker, markersize=5, label=s.label) for s, _ in drawn]
    if layered:
        handles.append(Line2D([], [], color=canvas.QUIET, label="searched view"))
        handles.append(Line2D([], [], color=canvas.QUIET, linestyle="--", label="global view"))
    figure.legend(handles=handles, loc="outside upper left", ncols=6, handlelength=2.6)
