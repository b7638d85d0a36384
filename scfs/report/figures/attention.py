"""Search attention maps on the same images for all runs, side by side (the paper's Fig. 3)."""

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from scfs.config.report import FIGURES
from scfs.config.study import Study
from scfs.report import canvas
from scfs.report.arrays import arrays_by_style, with_arrays

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

COLOURS = "viridis"
OPACITY = 0.62
OUTLINE = "#ff3d8b"
HEADING, CELL, CAPTION = 0.3, 1.45, 0.24
"""Heights in inches: column headings, a picture, the line below it."""
GAP = 0.06
"""Space between the four pieces of the jigsaw, as a share of the image's side."""


@FIGURES.add("attention")
class AttentionFigure(canvas.EvaluationFigure):
    """Search attention maps (Eq. 6), as the paper's Fig. 3."""

    heading: ClassVar = "Search attention"
    caption: ClassVar = (
        "Mean search attention map of the four local views (2 × 2 jigsaw) over the clean view, as in the paper’s "
        "Fig. 3. Each map is stretched from its own least (dark) to its greatest cosine (bright); both are written "
        "below it. With several seeds, the first one’s maps are shown."
    )
    format: ClassVar = "png"
    shows: ClassVar = "attention"

    kind: Literal["attention"]

    def compose(self, study: Study) -> "Canvas":
        """Compose the figure: rows are images.

        Columns: the view, its object's outline if the data have masks, the local jigsaw, then for each configuration
        (its first run that has maps) the mean attention map laid over the view.
        """
        runs = with_arrays(study.shown(self), self.evaluation)
        shown = arrays_by_style(study, runs, self.evaluation, lambda _: ["views"])
        first = shown[0][1]
        views = first.get("views", None, None, None, 3)
        masks = first.get("masks", *views.shape[:3]) if "masks" in first else None
        columns = ["view", "local jigsaw"] if masks is None else ["view", "object", "local jigsaw"]
        columns += [style.label for style, _ in shown]
        height = HEADING + len(views) * (CELL + CAPTION)
        figure = canvas.blank(1.04 * CELL * len(columns), height, layout=None)
        top, bottom = 1 - HEADING / height, CAPTION / height
        figure.subplots_adjust(0.002, bottom, 0.998, top, wspace=0.04, hspace=CAPTION / CELL)
        grid = figure.subplots(len(views), len(columns), squeeze=False)
        for axes, heading in zip(grid[0], columns, strict=True):
            axes.set_title(heading, loc="center", color=canvas.EITHER_THEME)
        for row, (view, cells) in enumerate(zip(views, grid, strict=True)):
            for axes in cells:
                axes.set_axis_off()
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


def _draw_jigsaw(axes: "Axes", pieces: np.ndarray) -> None:
    """Draw the four local views (4, s, s, 3) in their places, top left, top right and so on, a little apart."""
    size = (1 - GAP) / 2
    for index, piece in enumerate(pieces):
        top, left = divmod(index, 2)
        x, y = left * (size + GAP), top * (size + GAP)
        axes.imshow(piece, extent=(x, x + size, y + size, y), interpolation="bicubic")
    axes.set_xlim(0, 1)
    axes.set_ylim(1, 0)


def draw_overlay(axes: "Axes", view: np.ndarray, attention: np.ndarray) -> None:
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
    axes.set_axis_off()
    extremes = f"{low:.2f} to {high:.2f}".replace("-", "−")
    canvas.write(axes, 0.5, -0.025, extremes, transform=axes.transAxes, ha="center", va="top", fontsize=7.5)
