"""Search attention maps on the same images for all runs, side by side (the paper's Fig. 3)."""

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from scfs import paths
from scfs.config.report import Figure as FigureSettings
from scfs.config.study import Study
from scfs.errors import ScfsError
from scfs.report.figures import canvas
from scfs.report.figures.series import Series, series_of
from scfs.report.results import read_result

COLOURS = "viridis"
OPACITY = 0.62
OUTLINE = "#ff3d8b"
HEADING, CELL, CAPTION = 0.3, 1.45, 0.24
"""Heights in inches: column headings, a picture, the line below it."""
GAP = 0.06
"""Space between the four pieces of the jigsaw, as a share of the image's side."""


@dataclass(frozen=True)
class Maps:
    """What the stage `attention` keeps for the figure, M images."""

    views: np.ndarray
    """The clean views (M, S, S, 3) uint8."""
    pieces: np.ndarray
    """Their 2 x 2 jigsaw (M, 4, s, s, 3) uint8: top left, top right, bottom left, bottom right."""
    mean_map: np.ndarray
    """A of the pieces' mean feature (M, h, w): cosine similarities, may be negative."""
    masks: np.ndarray | None
    """The main object's mask in the view (M, S, S) bool, where the data have masks."""


def draw_attention(study: Study, settings: FigureSettings) -> bytes:
    """PNG of a figure of the kind "attention".

    Rows are images. Columns: the view, its object's outline if the data have masks, the local jigsaw, then per
    configuration (its first run that has maps) the mean attention map laid over the view.

    Raises:
        ScfsError: no run has maps, or two runs' maps are of different images.
    """
    shown = _read_all(study, settings)
    first = shown[0][1]
    columns = ["view", *(["object"] if first.masks is not None else []), "local jigsaw"]
    width = len(columns) + len(shown)
    with canvas.style():
        height = HEADING + len(first.views) * (CELL + CAPTION)
        figure = Figure(figsize=(1.04 * CELL * width, height))
        top, bottom = 1 - HEADING / height, CAPTION / height
        figure.subplots_adjust(0.002, bottom, 0.998, top, wspace=0.04, hspace=CAPTION / CELL)
        grid = figure.subplots(len(first.views), width, squeeze=False)
        for axes, title in zip(grid[0], columns + [series.label for series, _ in shown]):
            axes.set_title(title, loc="center", color=canvas.EITHER_THEME)
        for row, cells in enumerate(grid):
            _draw_sources(list(cells[: len(columns)]), first, row)
            for axes, (_, maps) in zip(cells[len(columns) :], shown):
                draw_overlay(axes, first.views[row], maps.mean_map[row])
        return canvas.png(figure, dpi=130)


def _read_all(study: Study, settings: FigureSettings) -> list[tuple[Series, Maps]]:
    evaluation, runs = settings.evaluation, study.shown(settings)
    assert evaluation is not None
    found: list[tuple[Series, Maps]] = []
    for series in series_of(study, runs):
        files = {run: paths.result(run, evaluation).with_suffix(".npz") for run in series.runs}
        run, present = next(((run, file) for run, file in files.items() if file.is_file()), ("", None))
        if present is None:
            continue
        read_result(study, run, evaluation)  # it was written with the maps: refuses those of other weights
        with np.load(present, allow_pickle=False) as arrays:
            maps = Maps(arrays["views"], arrays["pieces"], arrays["mean_map"], arrays.get("masks"))
        if found and not np.array_equal(found[0][1].views, maps.views):
            raise ScfsError(f"{present}: shows other images than the first run's: run the stage attention again")
        found.append((series, maps))
    if not found:
        file = paths.result(runs[0], evaluation).with_suffix(".npz")
        raise ScfsError(f"{file}: missing, and no other run has maps: the stage attention writes it")
    return found


def _draw_sources(cells: list[Axes], maps: Maps, row: int) -> None:
    view = maps.views[row]
    for axes in cells:
        axes.set_axis_off()
    cells[0].imshow(view, interpolation="bicubic")
    if maps.masks is not None:
        cells[1].imshow(view, interpolation="bicubic")
        if maps.masks[row].any():
            cells[1].contour(maps.masks[row].astype(float), levels=[0.5], colors=[to_rgb(OUTLINE)], linewidths=1.6)
    _draw_jigsaw(cells[-1], maps.pieces[row])


def _draw_jigsaw(axes: Axes, pieces: np.ndarray) -> None:
    """The four local views (4, s, s, 3) in their places, apart."""
    size = (1 - GAP) / 2
    for index, piece in enumerate(pieces):
        top, left = divmod(index, 2)
        x, y = left * (size + GAP), top * (size + GAP)
        axes.imshow(piece, extent=(x, x + size, y + size, y), interpolation="bicubic")
    axes.set_xlim(0, 1)
    axes.set_ylim(1, 0)


def draw_overlay(axes: Axes, view: np.ndarray, attention: np.ndarray) -> None:
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
    axes.text(
        0.5, -0.025, extremes, transform=axes.transAxes, ha="center", va="top", fontsize=7.5, color=canvas.EITHER_THEME
    )
