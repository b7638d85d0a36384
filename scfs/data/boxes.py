"""What a box may be: left, top, width and height in pixels, 0-based, from edge to edge (COCO's own form)."""

from collections.abc import Sequence

MARGIN = 1
"""Pixels that a box may reach over each border of its image: COCO's and VOC's own boxes are rounded. Nothing is clipped
here: whoever trains on a box or shows it does that."""


def leaves_image(box: Sequence[float], width: int, height: int) -> bool:
    """Whether a box reaches over a border of its image by more than `MARGIN`."""
    left, top, across, down = box
    return min(left, top) < -MARGIN or left + across > width + MARGIN or top + down > height + MARGIN


def outside(width: int, height: int) -> str:
    """What is wrong with such a box."""
    return f"outside its image of {width} x {height} pixels by more than {MARGIN}"
