"""The embedded subset of Fashion-MNIST (Xiao et al., 2017): garments by part and group of classes."""

import lzma
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from scfs.errors import refusing

FOLDER = Path(__file__).parent / "fashion_mnist_subset"
FILE_PREFIXES = {"train": "train", "test": "t10k"}
NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
HELD_OUT = (2, 5, 8)
GROUPS = {"seen": tuple(c for c in range(len(NAMES)) if c not in HELD_OUT), "held-out": HELD_OUT}
"""Classes of pre-training, and those kept out of it for the transfer set."""
SIDE = 28
FAINTEST = 8
"""A darker pixel is background: the originals have stray pixels around the garment, mostly of grey level 1 or 2."""


@dataclass(frozen=True, eq=False)
class Garments:
    """Garments of one part and one group of classes."""

    layers: np.ndarray
    """(n, 2, 28, 28) uint8: grey levels, 0 outside the garment; coverage, 255 on the garment and 0 outside."""
    labels: np.ndarray
    """(n,) int64, indices into `class_names` of the group."""


def class_names(group: Literal["seen", "held-out"]) -> tuple[str, ...]:
    """List the names of a group's classes; a label is an index into them."""
    return tuple(NAMES[c] for c in GROUPS[group])


@lru_cache(maxsize=4)
def load_garments(part: Literal["train", "test"], group: Literal["seen", "held-out"]) -> Garments:
    """Read a group's garments from a part of the embedded subset, in the order of the original files.

    Raises:
        ScfsError: a file of the subset is missing or damaged.
    """
    images = _read(f"{FILE_PREFIXES[part]}-images-idx3-ubyte.xz", header=16).reshape(-1, SIDE, SIDE)
    originals = _read(f"{FILE_PREFIXES[part]}-labels-idx1-ubyte.xz", header=8)
    chosen = np.isin(originals, GROUPS[group])
    images, labels = images[chosen], np.searchsorted(GROUPS[group], originals[chosen])
    coverage = silhouettes(images)
    layers = np.stack([images & coverage, coverage], axis=1)
    return Garments(layers, labels.astype(np.int64))


def silhouettes(images: np.ndarray) -> np.ndarray:
    """Fill outlines: (n, 28, 28) uint8, 255 where a garment pixel lies left and right of it, above and below.

    Black prints and dark cloth have the background's grey level; without this they would be holes.
    """
    cloth = images >= FAINTEST
    sides = [np.logical_or.accumulate(cloth, axis=axis) for axis in (1, 2)]
    others = [np.flip(np.logical_or.accumulate(np.flip(cloth, axis), axis=axis), axis) for axis in (1, 2)]
    inside: np.ndarray = np.logical_and.reduce([*sides, *others])
    return inside.astype(np.uint8) * 255


def _read(name: str, header: int) -> np.ndarray:
    """Read the bytes of an idx file behind its header."""
    with refusing(f"{FOLDER / name}: the embedded garments are missing or damaged", OSError, lzma.LZMAError):
        content = lzma.decompress((FOLDER / name).read_bytes())
    return np.frombuffer(content, np.uint8, offset=header)
