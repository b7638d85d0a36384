"""Training curves: one panel for each quantity, one line for each run."""

import re
from typing import Any, ClassVar, Literal

from scfs.config.report import FIGURES
from scfs.config.study import Study
from scfs.report import canvas
from scfs.report.plot_styles import PlotStyle, plot_styles
from scfs.report.results import PRETRAIN, read_result

Curve = dict[str, list[float]]
Drawn = list[tuple[PlotStyle, list[Curve]]]

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


@FIGURES.add("curves")
class CurvesFigure(canvas.DrawnFigure):
    """Means over each epoch.

    A data loss at ln K (dotted) is that of a uniform output, and features may still improve there. A low teacher
    entropy is a sharp output for single images; it is a collapse only if all images get the same. Random weights have
    no curve.
    """

    heading: ClassVar = "Training"

    kind: Literal["curves"]
    evaluation: None = None
    """None: the curves are those of the pre-training."""

    def compose(self, study: Study) -> "canvas.Canvas":
        """Compose the figure: a panel for each quantity, a line for each run."""
        read = [
            (style, [_curve(read_result(study, run, PRETRAIN)) for run in style.runs])
            for style in plot_styles(study, study.shown(self))
        ]
        drawn = [(style, list(filter(None, curves))) for style, curves in read if any(curves)]
        terms_of = _panels(drawn)
        figure = canvas.blank(11, 0.5 + 2.2 * max(1, -(-len(terms_of) // COLUMNS)))
        if not drawn:
            figure.text(0.5, 0.5, "No run of this study was trained.", ha="center")
            return figure
        for axes, (title, terms) in zip(canvas.panels(figure, len(terms_of), COLUMNS), terms_of.items()):
            _draw_panel(axes, title, terms, drawn)
        layered = any(len(terms) > 1 for terms in terms_of.values())
        styles = [style for style, _ in drawn]
        canvas.legend(figure, styles, {"searched view": "-", "global view": "--"} if layered else {})
        return figure


def _curve(result: dict[str, Any]) -> Curve:
    """Give the curve with data loss and teacher entropy as shares of the run's own ln K; {} if nothing was trained."""
    curve: Curve = dict(result["curve"])
    if not curve.get("epoch"):
        return {}
    for term, share in SHARES.items():
        if term in curve:
            curve[share] = [value / result["ln_k"] for value in curve.pop(term)]
    return curve


def _panels(drawn: Drawn) -> dict[str, list[str]]:
    """Sort terms into panels, by title: known ones first, a layer's two terms in one panel, then whatever is new."""
    names = dict.fromkeys(name for _, curves in drawn for curve in curves for name in curve)
    panels = {title: [name] for name, title in TITLES.items() if name in names and name != "center_norm"}
    for name in sorted(names.keys() - {"epoch", "step"} - TITLES.keys()):
        layer = LAYER_TERM.fullmatch(name)
        panels.setdefault(f"Loss of {layer[1]}" if layer else name.replace("_", " "), []).append(name)
    if "center_norm" in names:
        panels[TITLES["center_norm"]] = ["center_norm"]
    return panels


def _draw_panel(axes: "canvas.Axes", title: str, terms: list[str], drawn: Drawn) -> None:
    axes.set_title(title)
    for index, (style, curves) in enumerate(drawn):
        # Schedules of different runs often coincide: a wider line below shows on both sides of the one above it.
        width = 1.6 + 2.0 * (len(drawn) - 1 - index) if terms == ["lr"] else 1.6
        for curve in curves:
            marked = len(curve["epoch"]) <= (1 if terms == ["lr"] else MARKED_EPOCHS)
            looks: dict[str, Any] = {"color": style.colour, "linewidth": width, "markersize": 3.6}
            for term in (term for term in terms if term in curve):
                line, marker = "--" if term.endswith("_global") else "-", style.marker if marked else None
                axes.plot(curve["epoch"], curve[term], linestyle=line, marker=marker, **looks)
    if title.endswith("/ ln K"):
        axes.axhline(1, color=canvas.INK, linewidth=0.9, linestyle=(0, (1, 2)))
        place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "xytext": (0, 2), "textcoords": "offset points"}
        axes.annotate("ln K", (1, 1), ha="right", va="bottom", fontsize=8, **place)
    if title == TITLES["entropy_over_ln_k"]:
        axes.set_ylim(0, 1.12)
    elif terms == ["lr"]:
        axes.set_ylim(bottom=0)
    axes.locator_params(axis="x", nbins=5, integer=True)
    axes.locator_params(axis="y", nbins=5)
    axes.set_xlabel("epoch")
