"""Make scfs/data/fashion_mnist/ from the four original files: the first images of every class, in their order.

    python tools/embed_fashion_mnist.py FOLDER

FOLDER holds the originals (*-ubyte.gz); Debian's package dataset-fashion-mnist puts them into /usr/share/datasets.
Prints the sums that scfs/data/fashion_mnist/README.md lists.
"""

import gzip
import hashlib
import lzma
import struct
import sys
from pathlib import Path

import numpy as np

TARGET = Path(__file__).resolve().parent.parent / "scfs" / "data" / "fashion_mnist"
IMAGES_PER_CLASS = {"train": 850, "t10k": 300}
CLASSES = 10
IMAGES_MAGIC, LABELS_MAGIC = 0x00000803, 0x00000801


def first_of_each_class(labels: np.ndarray, number: int) -> np.ndarray:
    """Rows of the first `number` images of every class, ascending."""
    return np.sort(np.concatenate([np.flatnonzero(labels == label)[:number] for label in range(CLASSES)]))


def subset(images_idx: bytes, labels_idx: bytes, number: int) -> tuple[bytes, bytes]:
    """Cut both idx files (header, then bytes) down to `number` images per class."""
    magic, count, height, width = struct.unpack_from(">4I", images_idx)
    if magic != IMAGES_MAGIC or struct.unpack_from(">2I", labels_idx) != (LABELS_MAGIC, count):
        raise ValueError("not a pair of idx files of images and labels")
    images = np.frombuffer(images_idx, np.uint8, offset=16).reshape(count, height * width)
    labels = np.frombuffer(labels_idx, np.uint8, offset=8)
    rows = first_of_each_class(labels, number)
    return (
        struct.pack(">4I", IMAGES_MAGIC, len(rows), height, width) + images[rows].tobytes(),
        struct.pack(">2I", LABELS_MAGIC, len(rows)) + labels[rows].tobytes(),
    )


def embed(source: Path, target: Path) -> None:
    """Write the four files of the subset as xz and print the sums of originals and results."""
    target.mkdir(parents=True, exist_ok=True)
    for part, number in IMAGES_PER_CLASS.items():
        names = f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"
        originals = [(source / f"{name}.gz").read_bytes() for name in names]
        cut = subset(*(gzip.decompress(original) for original in originals), number)
        for name, original, content in zip(names, originals, cut, strict=True):
            (target / f"{name}.xz").write_bytes(lzma.compress(content, preset=9 | lzma.PRESET_EXTREME))
            print(f"{hashlib.sha256(original).hexdigest()}  original {name}.gz")
            print(f"{hashlib.sha256(content).hexdigest()}  embedded {name} (content of {name}.xz)")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tools/embed_fashion_mnist.py FOLDER")
    embed(Path(sys.argv[1]), TARGET)
