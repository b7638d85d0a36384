"""A study's figures, each as a file of its own; the report embeds the same drawings."""

from collections.abc import Callable
from pathlib import Path

from scfs.config.report import Figure
from scfs.config.study import Study
from scfs.io.atomic import write_with
from scfs.report.figures.attention import draw_attention
from scfs.report.figures.class_probabilities import draw_class_probabilities
from scfs.report.figures.curves import draw_curves
from scfs.report.figures.detections import draw_detections
from scfs.report.figures.layers import draw_layers
from scfs.report.figures.precision_recall import draw_precision_recall
from scfs.report.figures.sweep import draw_sweep

DRAWINGS: dict[str, Callable[[Study, Figure], bytes]] = {
    "curves": draw_curves,
    "layers": draw_layers,
    "attention": draw_attention,
    "sweep": draw_sweep,
    "class_probabilities": draw_class_probabilities,
    "detections": draw_detections,
    "precision_recall": draw_precision_recall,
}
"""What draws a kind of figure: SVG, or PNG where it is made of images (scfs.paths.figure)."""


def write_figure(study: Study, name: str, out: Path) -> None:
    """Write a figure of the study.

    Raises:
        ScfsError: a result is missing, or is not of the run's present weights and settings.
    """
    figure = study.figures[name]
    drawing = DRAWINGS[figure.kind](study, figure)
    write_with(out, lambda file: file.write(drawing))
