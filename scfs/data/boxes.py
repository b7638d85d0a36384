"""What a box may be (left, top, width and height in pixels, 0-based, from edge to edge: COCO's form), and a split."""

from collections.abc import Sequence

from scfs.errors import ScfsError

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


def require_instances(source: str, split: str, absent: Sequence[str], classes: int) -> None:
    """Refuse a split without an instance of a class: its average precision is not defined.

    Args:
        source: where the annotations are from.
        split: which one it is.
        absent: classes without an instance that counts, neither crowd nor difficult.
        classes: number of all.

    Raises:
        ScfsError: there is one.
    """
    if absent:
        number = f"{len(absent)} of the {classes} classes"
        raise ScfsError(
            f"{source}: split {split} has no instance of {number}, the first is {absent[0]!r} "
            "(crowds and difficult objects do not count): a class needs instances in every split"
        )
