"""Classes that a supervised run sees in images, over-augmented crops and searched features (the paper's Fig. 1)."""

from typing import ClassVar, Literal

import numpy as np

from scfs.config.report import FIGURES
from scfs.config.study import Study
from scfs.report import canvas
from scfs.report.arrays import Arrays, with_arrays
from scfs.report.figures.attention import draw_overlay
from scfs.report.plot_styles import LIGHT, UNTRAINED_LIGHT

GAP = 0.25
"""Height in inches of the space below a picture."""
COLUMNS = ("over-augmented", "", "original", "", "searched", "")
"""Headings of the pictures and, to their right, of the bars."""
ORDER = (1, 0, 2)
"""Places of the columns' samples in the arrays (scfs.evaluation.class_probabilities.SAMPLES)."""


@FIGURES.add("class_probabilities")
class ClassProbabilitiesFigure(canvas.EvaluationFigure):
    """Class probabilities of a supervised model for an image, an over-augmented crop of it, and what the crop’s feature
    finds in the image, as in the paper’s Fig. 1."""

    heading: ClassVar = "Class probabilities"
    format: ClassVar = "png"
    shows: ClassVar = "class_probabilities"

    kind: Literal["class_probabilities"]

    def compose(self, study: Study) -> "canvas.Canvas":
        """Compose the figure: rows are images.

        Columns: the over-augmented crop, the view, and the crop's attention map laid over the view, each with its
        likeliest classes; the image's own class is coloured.
        """
        arrays = Arrays(study, with_arrays(study.shown(self), self.evaluation)[0], self.evaluation)
        views, crops = (arrays.get(name, None, None, None, 3) for name in ("views", "crops"))
        maps, true_classes = arrays.get("attention", len(views), None, None), arrays.get("true_classes", len(views))
        names, shares = (arrays.get(f"top_{what}", len(views), 3, None) for what in ("classes", "probabilities"))
        width = 6.9 * canvas.PICTURE
        figure, grid = canvas.picture_grid(COLUMNS, len(views), width, GAP, right=0.99, wspace=0.06)
        for row, cells in enumerate(grid):
            cells[0].imshow(crops[row], interpolation="bicubic")
            cells[2].imshow(views[row], interpolation="bicubic")
            draw_overlay(cells[4], views[row], maps[row])
            for axes, sample in zip(cells[1::2], ORDER, strict=True):
                _draw_bars(axes, names[row, sample], shares[row, sample], true_classes[row])
        return figure


def _draw_bars(axes: "canvas.Axes", names: np.ndarray, shares: np.ndarray, true_class: str) -> None:
    """Draw bars of the likeliest classes, the likeliest on top, with their names on them."""
    places = np.arange(len(names))[::-1]
    axes.barh(places, shares, 0.42, color=[LIGHT[0] if name == true_class else UNTRAINED_LIGHT for name in names])
    for place, name, share in zip(places, names, shares, strict=True):
        canvas.write(axes, 0, place + 0.26, f"{name} {share:.2f}", va="bottom", fontsize=7.5)
    axes.set(xlim=(0, 1), ylim=(-0.5, len(names) - 0.1))
