"""Precision over recall of detections at IoU 0.5: a small panel for each class, a line for each configuration."""

from typing import ClassVar, Literal

import numpy as np

from scfs.config.report import FIGURES
from scfs.config.study import Study
from scfs.errors import ScfsError
from scfs.report import canvas
from scfs.report.arrays import Arrays, check_same
from scfs.report.plot_styles import plot_styles

MOST_PANELS, BEST, WORST = 20, 4, 5
"""With more classes than these: their mean, and those of the greatest and the least average precision."""
COLUMNS, NAME = 5, 24
"""Panels beside one another; letters of the longest name of a class."""

LINES = {"-": "precision", "--": "mask_precision"}
"""Arrays (classes, recalls) by line style: of boxes and, where the data have them, of masks."""


@FIGURES.add("precision_recall")
class PrecisionRecallFigure(canvas.EvaluationFigure):
    """Boxes, and dashed masks where there are any, at IoU 0.5; the area below a line is the AP50 of its class.

    With several seeds, the mean of their precisions at each recall. Of more than 20 classes, their mean and the 4 best
    and 5 worst by the AP50 of boxes, mean over the configurations.
    """

    heading: ClassVar = "Precision over recall"
    shows: ClassVar = "detection"

    kind: Literal["precision_recall"]

    def compose(self, study: Study) -> "canvas.Canvas":
        """Compose the figure: boxes as solid lines, masks as dashed ones; means over seeds."""
        read = [
            (style, [Arrays(study, run, self.evaluation) for run in style.runs])
            for style in plot_styles(study, study.shown(self))
        ]
        first = read[0][1][0]
        check_same([arrays for _, seeds in read for arrays in seeds], ("classes", "recall"))
        recall, names = first.get("recall", None), first.get("classes", None).tolist()
        drawn = [
            (style, line, np.mean([arrays.get(array, len(names), len(recall)) for arrays in seeds], axis=0))
            for style, seeds in read
            for line, array in LINES.items()
            if line == "-" or all(array in arrays for arrays in seeds)
        ]
        shown = panels_of(names, [precision for _, line, precision in drawn if line == "-"])
        if not shown:
            raise ScfsError(f"{first.path}: precision: no class has objects in the test split")
        figure = canvas.blank(11, 0.75 + 1.85 * -(-len(shown) // COLUMNS))
        cells = canvas.panels(figure, len(shown), COLUMNS, sharex=True, sharey=True)
        for axes, (title, classes) in zip(cells, shown):
            axes.set_title(canvas.shortened(title, NAME), parse_math=False)
            for place, (style, line, precision) in enumerate(drawn):
                # The markers of each line stand elsewhere, so that equal lines can be told apart.
                looks = {"color": style.colour, "marker": style.marker, "markevery": (3 + 5 * (place % 5), 25)}
                axes.plot(recall, precision[classes].mean(axis=0), line, linewidth=1.4, markersize=3.6, **looks)  # type: ignore[arg-type]
            axes.set(xlim=(0, 1), ylim=(0, 1.03), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
            axes.tick_params(labelbottom=True)  # in every row: the last one need not be full
        figure.supxlabel("recall", fontsize=9, color=canvas.QUIET)
        figure.supylabel("precision", fontsize=9, color=canvas.QUIET)
        masks = any(line == "--" for _, line, _ in drawn)
        canvas.legend(figure, [style for style, _ in read], {"boxes": "-", "masks": "--"} if masks else {})
        return figure


def panels_of(names: list[str], boxes: list[np.ndarray]) -> list[tuple[str, list[int]]]:
    """Choose the panels: one for each class that has objects; of more than 20 classes the mean, the best and the worst.

    Args:
        names: names of the K classes.
        boxes: precision of boxes of each configuration, (K, recalls); -1 for a class without objects.

    Returns:
        Title of each panel, and the classes whose mean it shows.
    """
    average = np.mean([precision.mean(axis=1) for precision in boxes], axis=0)
    present = [index for index in range(len(names)) if all(precision[index].min() >= 0 for precision in boxes)]
    if len(present) <= MOST_PANELS:
        return [(names[index], [index]) for index in present]
    ranked = sorted(present, key=lambda index: -average[index])
    chosen = [(names[index], [index]) for index in [*ranked[:BEST], *ranked[-WORST:]]]
    return [(f"mean of {len(present)} classes", present), *chosen]
