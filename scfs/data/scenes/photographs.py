"""Scenes of photographs: round parts of some, before squares of others, on an enlarged corner of another.

A crop of such a scene often misses the object, or shows another thing: what the paper's search is for. Every scene has
the true outline of its objects. Integers throughout, as for garments: a scene is a function of its arguments and the
photographs.
"""

from functools import cache, lru_cache
from pathlib import Path

import numpy as np

from scfs.config.scenes import PhotoSceneSplit
from scfs.data.decoding import decode
from scfs.data.scenes.compose import CANVAS, Draws, Scene, SceneObject, paste_fragment, paste_object, resize
from scfs.data.sources.folders import FolderListing, list_images
from scfs.errors import ScfsError, reading
from scfs.io.files import read_regular

SIDE = 64
"""Pixels that a photograph's middle square is resized to before a scene takes a part of it."""
CORNER = (8, 16)
"""Side of the corner that becomes the background: photographs seldom show their object there."""


def photographs(split: PhotoSceneSplit) -> FolderListing:
    """List the photographs of a split, which must have classes.

    Raises:
        ScfsError: they have none; or see `list_images`.
    """
    listing = list_images(Path(split.photos))
    if not listing.classes:
        raise ScfsError(f"{split.photos}: photographs for scenes must lie in a sub-folder for each class")
    return listing


def compose(split: PhotoSceneSplit, listing: FolderListing, name: str, seed: int, index: int) -> Scene:
    """Make scene `index` of the split `name` from its photographs.

    Raises:
        ScfsError: a photograph cannot be read or decoded.
    """
    number = len(listing.paths)
    draws = Draws(seed, name, index)
    canvas = resize(_square(listing, draws.below(number), draws.between(CORNER)), CANVAS)
    rows = [draws.below(number) for _ in range(draws.between(split.objects))]
    for _ in range(draws.between(split.fragments)):
        square = _square(listing, draws.below(number))
        paste_fragment(canvas, np.concatenate([square, np.full_like(square[:1], 255)]), draws)
    masks: list[np.ndarray] = []
    for row in rows:
        inside = np.where(disc(SIDE), np.uint8(255), np.uint8(0))
        masks = paste_object(
            canvas, np.concatenate([_square(listing, row) & inside, inside[None]]), split.side, draws, masks
        )
    labels = [listing.classes.index(listing.paths[row].partition("/")[0]) for row in rows]
    objects = tuple(SceneObject(label, mask) for label, mask in zip(labels, masks, strict=True))
    return Scene(np.ascontiguousarray(canvas.transpose(1, 2, 0)), objects)


@cache
def disc(side: int) -> np.ndarray:
    """Return the pixels whose centres lie within the circle that a square holds, (side, side) bool."""
    doubled = 2 * np.arange(side) + 1 - side
    inside: np.ndarray = doubled[:, None] ** 2 + doubled**2 <= side**2
    return inside


@lru_cache(maxsize=4096)
def _photograph(folder: Path, path: str) -> np.ndarray:
    """Read the middle square of a photograph, (3, SIDE, SIDE) uint8."""
    with reading(f"{folder / path}"):
        content = read_regular(folder / path)
    pixels = decode(content, f"{folder / path}").transpose(2, 0, 1)
    short = min(pixels.shape[1:])
    top, left = ((length - short) // 2 for length in pixels.shape[1:])
    return resize(pixels[:, top : top + short, left : left + short], SIDE)


def _square(listing: FolderListing, row: int, corner: int = SIDE) -> np.ndarray:
    """Take a photograph's top left corner, or all of it: (3, corner, corner) uint8."""
    return _photograph(listing.folder, listing.paths[row])[:, :corner, :corner]
