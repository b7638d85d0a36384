"""Boxes and masks that a detector finds in some test images, beside the true ones."""

from itertools import count, takewhile
from typing import ClassVar, Literal

from scfs.config.report import FIGURES
from scfs.config.study import Study
from scfs.report import canvas
from scfs.report.arrays import Arrays, check_same
from scfs.report.plot_styles import DARK, plot_styles

MOST_BOXES = 8
"""Boxes in a picture: the first ones of the truth, the surest ones that were found."""
WIDTH, NAME = 2.4, 20
"""Inches of a picture's width; letters of the longest name of a class."""
OPACITY = 0.4


@FIGURES.add("detections")
class DetectionsFigure(canvas.EvaluationFigure):
    """Objects of some test images, and up to 8 of the surest that a detector finds there which starts from each run’s
    weights, with their scores.

    Colours tell classes apart. With several seeds, the first one’s detections are shown.
    """

    heading: ClassVar = "Detections"
    format: ClassVar = "png"
    shows: ClassVar = "detection"

    kind: Literal["detections"]

    def compose(self, study: Study) -> "canvas.Canvas":
        """Compose the figure: rows are images; columns the ground truth, and what each configuration's run found."""
        styles = plot_styles(study, study.shown(self))
        shown = [(style, Arrays(study, style.runs[0], self.evaluation)) for style in styles]
        truth = shown[0][1]
        names = list(takewhile(truth.__contains__, (f"image_{number}" for number in count())))
        check_same([arrays for _, arrays in shown], ["classes", *names])
        images = [truth.get(name, None, None, 3) for name in names]
        if not images:
            raise truth.wrong("holds no images")
        ratios = [pixels.shape[0] / pixels.shape[1] for pixels in images]
        figure = canvas.blank(WIDTH * (1 + len(shown)), 0.3 + WIDTH * sum(ratios))
        columns = [("ground truth", truth, "truth"), *((style.label, arrays, "found") for style, arrays in shown)]
        grid = figure.subplots(len(images), len(columns), squeeze=False, height_ratios=ratios)
        for axes, (label, _, _) in zip(grid[0], columns, strict=True):
            axes.set_title(label, loc="center", color=canvas.EITHER_THEME, parse_math=False)
        for number, (pixels, cells) in enumerate(zip(images, grid, strict=True)):
            for axes, (_, arrays, side) in zip(cells, columns, strict=True):
                axes.imshow(pixels, interpolation="bicubic")
                axes.set_axis_off()
                _draw_objects(axes, arrays, side, number, pixels.shape[:2])
        return figure


def _draw_objects(axes: "canvas.Axes", arrays: Arrays, side: str, number: int, size: tuple[int, ...]) -> None:
    """Draw the objects of image `number` of `size` (H, W): of `side` "truth", or "found", with scores that fall."""
    boxes = arrays.get(f"{side}_boxes_{number}", None, 4)
    objects = arrays.get(f"{side}_classes_{number}", len(boxes))
    names = arrays.get("classes", None)
    if any(index not in range(len(names)) for index in objects.tolist()):
        raise arrays.wrong(f"{side}_classes_{number} = {objects.tolist()}: allowed are 0 to {len(names) - 1}")
    scores = arrays.get(f"found_scores_{number}", len(boxes)) if side == "found" else None
    masks = f"{side}_masks_{number}"
    outlines = arrays.get(masks, len(boxes), *size) if masks in arrays else None
    for place in reversed(range(min(MOST_BOXES, len(boxes)))):  # the surest one on top
        colour = DARK[int(objects[place]) % len(DARK)]
        if outlines is not None:
            axes.contourf(outlines[place].astype(float), levels=[0.5, 1], colors=[colour], alpha=OPACITY)
        canvas.outline(axes, boxes[place], colour, 1.2)
        label = canvas.shortened(str(names[int(objects[place])]), NAME)
        label += "" if scores is None else f" {scores[place]:.2f}"
        (x, y), ground = boxes[place, :2], {"facecolor": (0, 0, 0, 0.65), "edgecolor": "none", "pad": 0.8}
        canvas.write(axes, x, y, label, fontsize=6, va="top", color=colour, bbox=ground, clip_on=True)
    if not len(boxes):
        canvas.write(axes, 0.5, 0.5, "nothing", transform=axes.transAxes, ha="center", va="center", fontsize=8)
    axes.set(xlim=(0, size[1]), ylim=(size[0], 0))
