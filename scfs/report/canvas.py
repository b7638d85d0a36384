"""The look of all figures, and writing them so that equal figures are equal bytes.

All that read a study import the kinds of figures, so matplotlib is imported here alone, when a figure is drawn.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scfs.config.report import Figure
from scfs.config.study import Study
from scfs.report.plot_styles import PlotStyle

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

# The page replaces exactly these colours by its own, so that figures follow its light or dark theme.
INK = "#1c2025"
QUIET = "#6b7078"
RULE = "#dcdfe3"
PAPER = "#fffffe"
EITHER_THEME = "#767b84"
"""Grey that can be read on a light and on a dark page: pictures in pixels cannot follow the theme."""

HEADING, PICTURE = 0.3, 1.45
"""Heights in inches of the headings of columns and of a picture."""
SAVED: dict[str, dict[str, Any]] = {
    "svg": {"metadata": dict.fromkeys(("Date", "Creator", "Format", "Type"))},
    "png": {"metadata": {"Software": None}, "transparent": True, "dpi": 130},
}
"""How figures are saved: an SVG without a date (ids by a fixed salt, text as text), a PNG without a ground and without
the name of the software."""
STYLE = Path(__file__).with_name("figures.mplstyle")


class DrawnFigure(Figure):
    """Base of the kinds that matplotlib draws."""

    def compose(self, study: Study) -> "Canvas":
        """Compose the figure, in the style of all figures.

        Raises:
            ScfsError: a result is missing, or is not of the run's present weights and settings.
        """
        raise NotImplementedError

    def draw(self, study: Study) -> bytes:
        """Draw the figure as a file of its `format`.

        Raises:
            ScfsError: as `compose`.
        """
        with style():
            return saved(self.compose(study), self.format)


class EvaluationFigure(DrawnFigure):
    """Base of the kinds that show an evaluation."""

    evaluation: str
    """Key of the study's `evaluate`."""


def style() -> AbstractContextManager[None]:
    """Make a context that draws in the project's style, whatever the user's matplotlibrc says."""
    import matplotlib as mpl

    return mpl.rc_context(fname=STYLE)


def blank(width: float, height: float, layout: str | None = "constrained") -> "Canvas":
    """Make an empty figure; width and height in inches."""
    from matplotlib.figure import Figure as Canvas

    return Canvas(figsize=(width, height), layout=layout)  # type: ignore[arg-type]


def panels(figure: "Canvas", number: int, columns: int, **options: Any) -> "list[Axes]":
    """Make axes for `number` small panels, row by row; those that remain in the last row are hidden."""
    cells = figure.subplots(-(-number // columns), columns, squeeze=False, **options).ravel()
    for axes in cells[number:]:
        axes.set_axis_off()
    return list(cells[:number])


def picture_grid(
    headings: Sequence[str], rows: int, width: float, below: float, right: float = 0.998, wspace: float = 0.04
) -> "tuple[Canvas, np.ndarray]":
    """Make rows of pictures of `PICTURE` inches, with a line of headings above and `below` inches under each row.

    Returns:
        The figure of `width` inches, and its axes (rows, columns).
    """
    height = HEADING + rows * (PICTURE + below)
    figure = blank(width, height, layout=None)
    top, bottom = 1 - HEADING / height, below / height
    figure.subplots_adjust(0.002, bottom, right, top, wspace=wspace, hspace=below / PICTURE)
    grid: np.ndarray = figure.subplots(rows, len(headings), squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, heading in zip(grid[0], headings, strict=True):
        axes.set_title(heading, loc="center", color=EITHER_THEME)
    return figure, grid


def saved(figure: "Canvas", format: str, **options: Any) -> bytes:
    """Render as a file of a format, in which equal figures are equal bytes; `options` replace those of `SAVED`."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=format, **{**SAVED[format], **options})
    return buffer.getvalue()


def legend(figure: "Canvas", styles: Iterable[PlotStyle], lines: Mapping[str, Any]) -> None:
    """Put a legend above the figure: each configuration's look, and the meaning of the kinds of lines.

    Args:
        figure: the figure.
        styles: looks of the configurations.
        lines: line styles such as "--" by their meaning.
    """
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=s.colour, marker=s.marker, markersize=5, label=s.label) for s in styles]
    handles += [Line2D([], [], color=QUIET, linestyle=line, label=meaning) for meaning, line in lines.items()]
    figure.legend(handles=handles, loc="outside upper left", ncols=6, handlelength=2.6)


def outline(axes: "Axes", box: Iterable[float], colour: str, width: float) -> None:
    """Draw a box (corners x0 y0 x1 y1) with a dark edge around its line, so that it shows on any ground."""
    from matplotlib.patches import Rectangle

    x0, y0, x1, y1 = box
    for line, edge in ((2 * width, (0, 0, 0, 0.55)), (width, colour)):
        axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=edge, linewidth=line))


def write(axes: "Axes", x: float, y: float, text: str, **options: Any) -> None:
    """Write a text in a colour that can be read on a light and on a dark page; it is never read as mathematics."""
    axes.text(x, y, text, **{"color": EITHER_THEME, "parse_math": False, **options})


def shortened(text: str, most: int) -> str:
    """Cut a text to at most so many letters, with an ellipsis in place of its end."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"
