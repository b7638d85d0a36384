"""k-NN accuracy on the pooled maps of single layers, as grouped bars (the paper's Fig. 4)."""

from statistics import fmean, stdev
from typing import ClassVar, Literal

from scfs.config.report import FIGURES
from scfs.config.study import Study
from scfs.report import canvas
from scfs.report.plot_styles import plot_styles
from scfs.report.results import read_result

MOST_NUMBERED = 5
"""With more bars than this in a group, numbers above them would overlap."""


@FIGURES.add("layers")
class LayersFigure(canvas.EvaluationFigure):
    """k-NN on the pooled maps of single layers, as in the paper’s Fig. 4 (layer2 to layer4 are its Res2 to Res4).

    With several seeds a bar is their mean, its whisker one standard deviation.
    """

    heading: ClassVar = "Accuracy by layer"
    narrow: ClassVar = True
    shows: ClassVar = "layers"

    kind: Literal["layers"]

    def compose(self, study: Study) -> "canvas.Canvas":
        """Compose the figure: a group of bars for each layer, a bar for each configuration."""
        protocol, styles = study.evaluate[self.evaluation], plot_styles(study, study.shown(self))
        step = 0.84 / len(styles)
        figure = canvas.blank(8.2, 3.3)
        axes = figure.subplots()
        layers = protocol.values()
        for index, style in enumerate(styles):
            results = [read_result(study, run, self.evaluation)["values"] for run in style.runs]
            by_layer = [[values[layer] for values in results] for layer in layers]
            means = [fmean(values) for values in by_layer]
            places = [group + (index - (len(styles) - 1) / 2) * step for group in range(len(by_layer))]
            bars = axes.bar(places, means, step * 0.9, color=style.colour, label=style.label)
            if len(results) > 1:
                spreads = [stdev(values) for values in by_layer]
                axes.errorbar(places, means, spreads, fmt="none", ecolor=canvas.INK, elinewidth=1, capsize=2)
            elif len(styles) <= MOST_NUMBERED:
                axes.bar_label(bars, fmt="%.1f", padding=2, fontsize=8, color=canvas.QUIET)
        axes.set_xticks(range(len(layers)), layers)
        axes.tick_params(axis="x", labelcolor=canvas.INK, labelsize=9.5)
        axes.set_ylabel(f"k-NN top-1 in % (k = {getattr(protocol, 'report_k', '')})")
        axes.margins(x=0.02, y=0.1)
        figure.legend(loc="outside upper left", ncols=5, handlelength=1.2, handleheight=1.0)
        return figure
