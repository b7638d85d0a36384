"""The whole of Fashion-MNIST (Xiao et al., 2017), 70,000 grey images; the embedded part: `scfs.data.scenes`.

Archives: for both splits a file of images and one of labels in the idx format, which the MNIST page (LeCun) describes:
a magic number, the dimensions, then bytes. Labels have no names in them; the project's readme lists these. Images
become PNG files, which lose nothing.
"""

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from scfs.data.archives.members import members
from scfs.data.official.parsers.label_files import class_folders
from scfs.data.official.parsers.records import Parsed, Record, of_pixels
from scfs.data.scenes.fashion_mnist import NAMES
from scfs.errors import ScfsError

MAGIC = {1: 0x00000801, 3: 0x00000803}
"""Magic number by number of dimensions: it says unsigned bytes, and the dimensions."""


def parse(archives: Mapping[str, Path]) -> Parsed:
    """Return the classes, T-shirt/top to Ankle boot, and images as `<class>/<index in the split>.png`.

    Raises:
        ScfsError: a file is not an idx file of images or labels or is cut off, numbers differ, or a label is not a
            class's.
    """
    return NAMES, _records(archives)


def _records(archives: Mapping[str, Path]) -> Iterator[Record]:
    folders = class_folders(NAMES, "Fashion-MNIST")
    for split in ("train", "test"):
        source = archives[f"{split}_labels"]
        images, labels = _read_idx(archives[f"{split}_images"], 3), _read_idx(source, 1)
        if len(images) != len(labels):
            raise ScfsError(f"{source}: {len(labels)} labels of {len(images)} images")
        yield from of_pixels(f"{source}", split, 0, labels, images, folders)


def _read_idx(archive: Path, dimensions: int) -> np.ndarray:
    """Read the array of a compressed idx file of bytes."""
    content = b"".join(member.read() for member in members(archive))
    head = 4 + 4 * dimensions
    if len(content) < head or struct.unpack_from(">I", content)[0] != MAGIC[dimensions]:
        raise ScfsError(f"{archive}: not an idx file of bytes with {dimensions} dimensions")
    shape = struct.unpack_from(f">{dimensions}I", content, 4)
    wanted = int(np.prod(shape))
    if len(content) - head != wanted:
        raise ScfsError(f"{archive}: cut off: {len(content) - head} bytes of {wanted} after its header")
    return np.frombuffer(content, np.uint8, offset=head).reshape(shape)
