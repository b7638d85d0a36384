"""Search attention maps on the same images for all runs, side by side (the paper's Fig. 3)."""

from typing import ClassVar, Literal

import numpy as np

from scfs.config.report import FIGURES
from scfs.config.study import Study
from scfs.report import canvas
from scfs.report.arrays import Arrays, check_same, with_arrays
from scfs.report.plot_styles import plot_styles

COLOURS = "viridis"
OPACITY = 0.62
OUTLINE = "#ff3d8b"
CAPTION = 0.24
"""Height in inches of the line below a picture."""
GAP = 0.06
"""Space between the four pieces of the jigsaw, as a share of the image's side."""


@FIGURES.add("attention")
class AttentionFigure(canvas.EvaluationFigure):
    """Mean search attention map of the four local views (2 × 2 jigsaw) over the clean view, as in the paper’s Fig. 3.

    Each map is stretched from its own least (dark) to its greatest cosine (bright); both are written below it. With
    several seeds, the first one’s maps are shown.
    """

    heading: ClassVar = "Search attention"
    format: ClassVar = "png"
    shows: ClassVar = "attention"

    kind: Literal["attention"]

    def compose(self, study: Study) -> "canvas.Canvas":
        """Compose the figure: rows are images.

        Columns: the view, its object's outline if the data have masks, the local jigsaw, then for each configuration
        (its first run that has maps) the mean attention map laid over the view.
        """
        runs = with_arrays(study.shown(self), self.evaluation)
        shown = [(style, Arrays(study, style.runs[0], self.evaluation)) for style in plot_styles(study, runs)]
        check_same([arrays for _, arrays in shown], ["views"])
        first = shown[0][1]
        views = first.get("views", None, None, None, 3)
        masks = first.get("masks", *views.shape[:3]) if "masks" in first else None
        columns = ["view", "local jigsaw"] if masks is None else ["view", "object", "local jigsaw"]
        columns += [style.label for style, _ in shown]
        figure, grid = canvas.picture_grid(columns, len(views), 1.04 * canvas.PICTURE * len(columns), CAPTION)
        for row, (view, cells) in enumerate(zip(views, grid, strict=True)):
            cells[0].imshow(view, interpolation="bicubic")
            if masks is not None:
                cells[1].imshow(view, interpolation="bicubic")
                if masks[row].any():
                    cells[1].contour(masks[row].astype(float), levels=[0.5], colors=[OUTLINE], linewidths=1.6)
            overlays = cells[-len(shown) :]
            _draw_jigsaw(cells[-len(shown) - 1], first.get("pieces", len(views), 4, None, None, 3)[row])
            for axes, (_, arrays) in zip(overlays, shown, strict=True):
                draw_overlay(axes, view, arrays.get("mean_map", len(views), None, None)[row])
        return figure


def _draw_jigsaw(axes: "canvas.Axes", pieces: np.ndarray) -> None:
    """Draw the four local views (4, s, s, 3) in their places, top left, top right and so on, a little apart."""
    size = (1 - GAP) / 2
    for index, piece in enumerate(pieces):
        top, left = divmod(index, 2)
        x, y = left * (size + GAP), top * (size + GAP)
        axes.imshow(piece, extent=(x, x + size, y + size, y), interpolation="bicubic")
    axes.set(xlim=(0, 1), ylim=(1, 0))


def draw_overlay(axes: "canvas.Axes", view: np.ndarray, attention: np.ndarray) -> None:
    """Lay a map over the grey view, stretched from its own least to its greatest value; both stand below it."""
    height, width = view.shape[:2]
    grey = view @ np.array([0.299, 0.587, 0.114]) / 255
    low, high = float(attention.min()), float(attention.max())
    axes.imshow(grey, cmap="gray", vmin=0, vmax=1, interpolation="bicubic")
    axes.imshow(
        attention,
        cmap=COLOURS,
        vmin=low,
        vmax=max(high, low + 1e-6),
        alpha=OPACITY,
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        interpolation="bilinear",
    )
    extremes = f"{low:.2f} to {high:.2f}".replace("-", "−")
    canvas.write(axes, 0.5, -0.025, extremes, transform=axes.transAxes, ha="center", va="top", fontsize=7.5)
