"""Bars of a value, one for each run."""

from typing import ClassVar, Literal

from scfs.config.report import FIGURES
from scfs.report import canvas
from scfs.report.results import read_result


@FIGURES.add("toy_bars")
class ToyBars(canvas.EvaluationFigure):
    """A bar for each run."""

    heading: ClassVar = "Bars & more"
    format: ClassVar = "png"
    shows: ClassVar = "knn"

    kind: Literal["toy_bars"]
    height: float = 1.0
    """Inches."""

    def compose(self, study):
        figure = canvas.blank(3, self.height)
        runs = study.shown(self)
        figure.subplots().bar(runs, [read_result(study, run, self.evaluation)["values"]["top1"] for run in runs])
        return figure
