"""Labels of boxes in a picture: how wide a text is, and where a label hides least of the others."""

from functools import cache

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from scfs.report.figures.canvas import STYLE

Rectangle = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels; y grows downwards."""


@cache
def text_width(text: str, size: float, bold: bool = False) -> float:
    """Width of a text in points, in the figures' font of `size` points."""
    font = FontProperties(family=STYLE["font.sans-serif"], weight="bold" if bold else "normal")
    return float(TextPath((0, 0), text, size=size, prop=font).get_extents().width) if text.strip() else 0.0


def fitted(text: str, width: float, size: float, bold: bool = False) -> str:
    """The text if it is no wider than `width` points, else as much of its beginning as is, with an ellipsis."""
    if text_width(text, size, bold) <= width:
        return text
    kept = next((n for n in range(len(text) - 1, 0, -1) if text_width(text[:n] + "…", size, bold) <= width), 0)
    return text[:kept].rstrip() + "…"


def placed(box: Rectangle, size: tuple[float, float], room: tuple[float, float], others: list[Rectangle]) -> Rectangle:
    """Where a label stands: at a corner of its box, above it if possible, where it covers least of other labels.

    Args:
        box: what it labels.
        size: width and height of the label.
        room: width and height of the picture, which it does not leave.
        others: labels that stand already.

    Returns:
        The label's rectangle.
    """
    width, height = size
    left, top, right, bottom = box
    corners = [(x, y) for x in (left, right - width) for y in (top - height, top, bottom, bottom - height)]
    inside = [(_clipped(x, room[0] - width), _clipped(y, room[1] - height)) for x, y in corners]
    rectangles = [(x, y, x + width, y + height) for x, y in inside]
    return min(rectangles, key=lambda rectangle: sum(_overlap(rectangle, other) for other in others))


def _clipped(value: float, most: float) -> float:
    return max(0.0, min(value, most))


def _overlap(one: Rectangle, other: Rectangle) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0.0) * max(height, 0.0)
