"""k-NN accuracy on the pooled maps of single layers, as grouped bars (the paper's Fig. 4)."""

from statistics import fmean, stdev

from matplotlib.figure import Figure

from scfs.config.evaluation import Layers
from scfs.config.report import Figure as FigureSettings
from scfs.config.study import Study
from scfs.report.figures import canvas
from scfs.report.figures.series import series_of
from scfs.report.results import read_result

MOST_NUMBERED = 5
"""With more bars than this in a group, numbers above them would overlap."""


def draw_layers(study: Study, settings: FigureSettings) -> bytes:
    """SVG of a figure of the kind "layers".

    A group of bars per layer, a bar per configuration. With several seeds the bar is their mean, its whisker
    one standard deviation.
    """
    evaluation = settings.evaluation
    assert evaluation is not None
    protocol = study.evaluate[evaluation]
    assert isinstance(protocol, Layers)
    all_series = series_of(study, study.shown(settings))
    step = 0.84 / len(all_series)
    with canvas.style():
        figure = Figure(figsize=(8.2, 3.3), layout="constrained")
        axes = figure.subplots()
        for index, series in enumerate(all_series):
            results = [read_result(study, run, evaluation)["values"] for run in series.runs]
            by_layer = [[values[layer] for values in results] for layer in protocol.layers]
            means = [fmean(values) for values in by_layer]
            places = [group + (index - (len(all_series) - 1) / 2) * step for group in range(len(by_layer))]
            bars = axes.bar(places, means, step * 0.9, color=series.colour, label=series.label)
            if len(results) > 1:
                spreads = [stdev(values) for values in by_layer]
                axes.errorbar(places, means, spreads, fmt="none", ecolor=canvas.INK, elinewidth=1, capsize=2)
            elif len(all_series) <= MOST_NUMBERED:
                axes.bar_label(bars, fmt="%.1f", padding=2, fontsize=8, color=canvas.QUIET)
        axes.set_xticks(range(len(protocol.layers)), protocol.layers)
        axes.tick_params(axis="x", labelcolor=canvas.INK, labelsize=9.5)
        axes.set_ylabel(f"k-NN top-1 in % (k = {protocol.report_k})")
        axes.margins(x=0.02, y=0.1)
        figure.legend(loc="outside upper left", ncols=5, handlelength=1.2, handleheight=1.0)
        return canvas.svg(figure)
