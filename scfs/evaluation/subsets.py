"""Stratified subsets of a labelled set: the labels of semi-supervised learning, and validation splits."""

import numpy as np
import numpy.typing as npt

from scfs.data.image_set import ImageSet
from scfs.errors import ScfsError
from scfs.runtime.philox import permutation

LABELLED, VALIDATION = 0xFFFFFFFF, 0xFFFFFFFE
"""Numbers of the draws, in the place of an epoch's number. That never gets so far: no draw is also an epoch's order."""


def stratified_subset(images: ImageSet, share: float, seed: int, draw: int) -> npt.NDArray[np.bool_]:
    """Draw round(share * n_k) images of each class k with n_k images (half to even), one at least: a mask (n,).

    Args:
        images: with labels.
        share: between 0 and 1.
        seed: seed of the draw.
        draw: number of the draw, of those of this seed.

    Raises:
        ScfsError: the set has no labels, or a class without images.
    """
    labels = images.require_labels()
    require_every_class(images)
    order = permutation(seed, draw, len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    chosen = np.zeros(len(labels), np.bool_)
    for members in np.split(by_class, np.cumsum(np.bincount(labels))[:-1]):
        chosen[members[: max(1, round(share * len(members)))]] = True
    return chosen


def validation_split(images: ImageSet, share: float, seed: int) -> npt.NDArray[np.bool_]:
    """Draw a stratified subset to choose settings on, a mask (n,), and leave every class an image to train on.

    Raises:
        ScfsError: as `stratified_subset`, or a class has a single image.
    """
    chosen = stratified_subset(images, share, seed, VALIDATION)
    left = np.bincount(images.require_labels()[~chosen], minlength=len(images.classes))
    if not left.all():
        label = int(left.argmin())
        raise ScfsError(
            f"data set {images.name}, split {images.split}: validation = {share:g}: takes all"
            f" {np.count_nonzero(images.require_labels() == label)} labelled images of class {images.classes[label]!r}"
        )
    return chosen


def require_every_class(images: ImageSet, source: str = "") -> None:
    """Refuse a labelled set without an image of every class: there would be no mean over classes.

    Args:
        images: with labels.
        source: the file that names them, for the message; by default the split.

    Raises:
        ScfsError: it has none of some classes.
    """
    present = np.bincount(images.require_labels(), minlength=len(images.classes)) > 0
    missing = [name for name, there in zip(images.classes, present, strict=True) if not there]
    if missing:
        raise ScfsError(
            f"{source or f'data set {images.name}, split {images.split}'}: no image of {len(missing)} of the"
            f" {len(present)} classes: {', '.join(missing[:5])}"
        )
