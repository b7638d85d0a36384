"""Garment scenes: a canvas of grey noise, small fragments of other garments, and the main garment, anywhere.

Integer arithmetic and a counter-based generator throughout, so that a scene has the same bytes on every machine and can
be made alone. Many small crops of a scene miss the garment: the paper's semantic inconsistency, with ground truth.
All scenes share one neutral background, and are grey: neither may tell one image from another.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from math import isqrt

import numpy as np

from scfs.config.scenes import SceneSplit
from scfs.data.scenes.fashion_mnist import Garments, load_garments

CANVAS = 96
FRAGMENT_CUT = (9, 14)
"""Side of the square cut out of a 28x28 garment."""
FRAGMENT_SIDE = (12, 24)
"""Side that the cut is resized to."""
NOISE_FLOOR, NOISE_SHIFT = 96, 2
"""Background: 96 ... 159, uniform, between the grey levels of most dark and most bright garments."""
FLAT = 128
"""Background without noise: the middle of the noise."""
EQUAL_MEAN, EQUAL_DEVIATION = 128, 48
"""Grey levels of an equalised garment: mean that of the background; most levels stay within 0 ... 255."""
FRACTION = 4
"""Binary digits behind the point of the integers that equalise a garment."""
PLACES = 16
"""Places tried for every further main garment; the one that hides the others least is taken."""


@dataclass(frozen=True, eq=False)
class SceneObject:
    """A main garment, or a photographed object, in a scene."""

    label: int
    """Index into the classes of the split."""
    mask: np.ndarray
    """(96, 96) bool: its visible part."""


@dataclass(frozen=True, eq=False)
class Scene:
    """One image and what is in it."""

    pixels: np.ndarray
    """(96, 96) uint8, grey, or (96, 96, 3)."""
    objects: tuple[SceneObject, ...]
    """Those that have masks, from back to front."""


class Draws:
    """Uniform integers of one scene, from Philox with the key (seed, split) and the counter (scene index)."""

    def __init__(self, seed: int, split: str, index: int) -> None:
        name = int.from_bytes(hashlib.sha256(split.encode()).digest()[:8], "little")
        key = np.array([seed % 2**64, name], np.uint64)
        self._bits = np.random.Philox(key=key, counter=np.array([0, index, 0, 0], np.uint64))

    def below(self, bound: int) -> int:
        """Draw an integer from 0 to bound - 1."""
        return int(self._bits.random_raw()) * bound >> 64

    def between(self, limits: tuple[int, int]) -> int:
        """Draw an integer from the first limit to the second, both included."""
        return limits[0] + self.below(limits[1] - limits[0] + 1)

    def bytes(self, number: int) -> np.ndarray:
        """Draw (number,) uint8; `number` is a multiple of 8."""
        raw: np.ndarray = self._bits.random_raw(number // 8)
        return raw.astype("<u8").view(np.uint8)


def compose(split: SceneSplit, name: str, seed: int, index: int) -> Scene:
    """Make scene `index` of the split `name`; a function of its arguments alone."""
    garments = load_garments(split.part, split.classes)
    number = len(garments.labels)
    draws = Draws(seed, name, index)
    canvas = NOISE_FLOOR + (draws.bytes(CANVAS * CANVAS).reshape(CANVAS, CANVAS) >> NOISE_SHIFT)
    if split.background == "flat":
        canvas = np.full_like(canvas, FLAT)
    rows = [draws.below(number) for _ in range(draws.between(split.garments))]
    for _ in range(draws.between(split.fragments)):
        other = (rows[0] + 1 + draws.below(number - 1)) % number
        paste_fragment(canvas, _layers(garments, other, split), draws)
    masks: list[np.ndarray] = []
    for row in rows:
        masks = paste_object(canvas, _layers(garments, row, split), split.side, draws, masks)
    return Scene(canvas, tuple(SceneObject(int(garments.labels[row]), mask) for row, mask in zip(rows, masks)))


def _layers(garments: Garments, row: int, split: SceneSplit) -> np.ndarray:
    """Return grey levels and coverage of a garment, (2, 28, 28) uint8."""
    layers: np.ndarray = garments.layers[row]
    return equalised(layers) if split.equal_grey else layers


def equalised(layers: np.ndarray) -> np.ndarray:
    """Give a garment's grey levels the mean and deviation of all equalised garments, but for clipping.

    Integers throughout: a garment of one grey level becomes flat cloth of the mean.

    Args:
        layers: grey levels and coverage (0 or 255), (2, 28, 28) uint8.
    """
    levels, inside = layers[0].astype(np.int64), layers[1] > 0
    number = int(inside.sum())
    off_mean = levels * number - int(levels[inside].sum())
    # isqrt of number * sum of squares: the deviation in the units of off_mean, exact on every machine.
    spread = max(1, isqrt(int((off_mean[inside] ** 2).sum()) // number))
    scaled = EQUAL_MEAN + (((off_mean * EQUAL_DEVIATION << FRACTION) // spread + (1 << FRACTION - 1)) >> FRACTION)
    return np.stack([np.where(inside, np.clip(scaled, 0, 255), 0).astype(np.uint8), layers[1]])


def paste_fragment(canvas: np.ndarray, layers: np.ndarray, draws: Draws) -> None:
    """Paste a square that is cut from around the middle of a garment or a photograph; see `_paste` for the arrays."""
    cut, side = draws.between(FRAGMENT_CUT), draws.between(FRAGMENT_SIDE)
    margin = layers.shape[-1] - cut
    top, left = (margin // 4 + draws.below(margin // 2 + 1) for _ in range(2))
    square = layers[:, top : top + cut, left : left + cut]
    _paste(canvas, resize(square, side), _place(draws, side))


def paste_object(
    canvas: np.ndarray, thing: np.ndarray, sides: tuple[int, int], draws: Draws, behind: list[np.ndarray]
) -> list[np.ndarray]:
    """Paste a whole garment or object in front of the others, whose visible parts are `behind`; see `_paste`.

    Returns:
        The visible part of everyone, the new one's last: (96, 96) bool each.
    """
    side = draws.between(sides)
    layers = resize(thing, side)
    places = [_place(draws, side) for _ in range(PLACES if behind else 1)]
    candidates = {place: _mask(layers, place) for place in places}

    def left_of_worst(place: tuple[int, int]) -> int:
        return min((int((mask & ~candidates[place]).sum()) for mask in behind), default=0)

    best = max(places, key=left_of_worst)
    _paste(canvas, layers, best)
    return [*(mask & ~candidates[best] for mask in behind), candidates[best]]


def _place(draws: Draws, side: int) -> tuple[int, int]:
    """Draw the top left corner of a square within the canvas."""
    return draws.below(CANVAS - side + 1), draws.below(CANVAS - side + 1)


def _window(side: int, place: tuple[int, int]) -> tuple[slice, slice]:
    return slice(place[0], place[0] + side), slice(place[1], place[1] + side)


def _mask(layers: np.ndarray, place: tuple[int, int]) -> np.ndarray:
    """Return where a pasted garment covers at least half of a pixel: (96, 96) bool."""
    mask = np.zeros((CANVAS, CANVAS), bool)
    mask[_window(layers.shape[-1], place)] = layers[-1] >= 128
    return mask


def _paste(canvas: np.ndarray, layers: np.ndarray, place: tuple[int, int]) -> None:
    """Lay levels over the canvas by their coverage (premultiplied: the levels are 0 outside of what is pasted).

    Args:
        canvas: (96, 96), or (3, 96, 96), uint8.
        layers: levels and, last, coverage, (2, s, s) or (4, s, s) uint8.
        place: top left corner.
    """
    levels, coverage = layers[:-1].astype(np.int32), layers[-1].astype(np.int32)
    window = (..., *_window(layers.shape[-1], place))
    canvas[window] = (canvas[window] * (255 - coverage) + 127) // 255 + levels


def resize(images: np.ndarray, side: int) -> np.ndarray:
    """Resize squares bilinearly, (..., s, s) to (..., side, side) uint8, with weights in 1/256."""
    low, high, weight = _taps(images.shape[-1], side)
    wide = images.astype(np.int32)
    rows = wide[..., low, :] * (256 - weight[:, None]) + wide[..., high, :] * weight[:, None]
    both: np.ndarray = rows[..., low] * (256 - weight) + rows[..., high] * weight
    return ((both + (1 << 15)) >> 16).astype(np.uint8)


@cache
def _taps(old: int, new: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the lower and upper neighbour of every new pixel's centre, and the upper one's weight in 1/256."""
    position = np.clip((2 * np.arange(new) + 1) * old - new, 0, 2 * new * (old - 1))
    low, rest = np.divmod(position, 2 * new)
    return low, np.minimum(low + 1, old - 1), (rest * 256 // (2 * new)).astype(np.int32)
