"""A value over a setting, one line per method (the paper's Fig. 5: accuracy over the number of local crops)."""

from statistics import fmean, stdev

from matplotlib.figure import Figure as Canvas

from scfs.config.report import Column, Figure
from scfs.config.study import Study
from scfs.report.figures import canvas
from scfs.report.figures.series import LIGHT, MARKERS
from scfs.report.results import read_value


def draw_sweep(study: Study, figure: Figure) -> bytes:
    """SVG of a figure of the kind "sweep". With several seeds a point is their mean, its bar one standard deviation."""
    assert figure.evaluation is not None and figure.value is not None and figure.axis is not None
    column = Column(label=figure.value, evaluation=figure.evaluation, value=figure.value)
    with canvas.style():
        drawn = Canvas(figsize=(5.2, 3.3), layout="constrained")
        axes = drawn.subplots()
        for index, (label, points) in enumerate(figure.points.items()):
            values = [[read_value(study, run, column) for run in point.runs] for point in points]
            spreads = [stdev(of_point) if len(of_point) > 1 else 0.0 for of_point in values]
            axes.errorbar(
                [point.x for point in points],
                [fmean(of_point) for of_point in values],
                spreads if any(spreads) else None,
                color=LIGHT[index % len(LIGHT)],
                marker=MARKERS[index % len(MARKERS)],
                markersize=5,
                capsize=2,
                label=label,
            )
        axes.set_xticks(sorted({point.x for points in figure.points.values() for point in points}))
        axes.set_xlabel(figure.axis)
        axes.set_ylabel(f"{figure.evaluation} {figure.value} in %")
        drawn.legend(loc="outside upper left", ncols=5)
        return canvas.svg(drawn)
