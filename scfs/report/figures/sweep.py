"""A value over a setting, one line for each method (the paper's Fig. 5: accuracy over the number of local crops)."""

from statistics import fmean, stdev
from typing import ClassVar, Literal

from pydantic import Field

from scfs.config.base import Config
from scfs.config.report import FIGURES
from scfs.config.study import Study
from scfs.report import canvas
from scfs.report.plot_styles import LIGHT, MARKERS
from scfs.report.results import read_value


class Point(Config):
    """One place of a curve over a setting."""

    x: float
    """Value of the setting."""
    runs: tuple[str, ...] = Field(min_length=1)
    """Runs that are averaged: one for each seed."""


@FIGURES.add("sweep")
class Sweep(canvas.EvaluationFigure):
    """Points are means over seeds, bars one standard deviation, as in the paper’s Fig. 5."""

    heading: ClassVar = "Over a setting"
    narrow: ClassVar = True

    kind: Literal["sweep"]
    runs: tuple[()] = ()
    """None: the points name the runs."""
    value: str
    """Key within the evaluation's values."""
    axis: str = Field(min_length=1)
    """Name of the setting."""
    points: dict[str, tuple[Point, ...]] = Field(min_length=1)
    """Places of each line, by its label."""

    @property
    def named_runs(self) -> tuple[str, ...]:
        """Runs of all points."""
        return tuple(run for points in self.points.values() for point in points for run in point.runs)

    @property
    def named_values(self) -> tuple[str, ...]:
        """The value that is drawn."""
        return (self.value,)

    def compose(self, study: Study) -> "canvas.Canvas":
        """Compose the figure. With several seeds a point is their mean, its bar one standard deviation."""
        figure = canvas.blank(5.2, 3.3)
        axes = figure.subplots()
        for index, (label, points) in enumerate(self.points.items()):
            values = [[read_value(study, run, self.evaluation, self.value) for run in point.runs] for point in points]
            x, means = [point.x for point in points], [fmean(seeds) for seeds in values]
            spreads = [stdev(seeds) if len(seeds) > 1 else 0.0 for seeds in values]
            colour, marker = LIGHT[index % len(LIGHT)], MARKERS[index % len(MARKERS)]
            whiskers = spreads if any(spreads) else None
            axes.errorbar(x, means, whiskers, color=colour, marker=marker, markersize=5, capsize=2, label=label)
        axes.set_xticks(sorted({point.x for points in self.points.values() for point in points}))
        axes.set_xlabel(self.axis)
        axes.set_ylabel(f"{self.evaluation} {self.value} in %")
        figure.legend(loc="outside upper left", ncols=5)
        return figure
