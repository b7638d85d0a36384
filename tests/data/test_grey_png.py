import io
import zlib

import numpy as np
import pytest
from PIL import Image

from scfs.data.grey_png import encode


@pytest.mark.parametrize("shape", [(1, 1), (96, 96), (300, 500)])
def test_pillow_reads_the_same_pixels(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    with Image.open(io.BytesIO(encode(pixels))) as image:
        image.verify()
    with Image.open(io.BytesIO(encode(pixels))) as image:
        assert image.mode == "L"
        np.testing.assert_array_equal(np.asarray(image), pixels)


def test_data_are_stored_and_not_compressed():
    pixels = np.full((96, 96), 7, np.uint8)
    file = encode(pixels)
    stream = file[file.index(b"IDAT") + 4 : -16]
    assert stream[2] == 1  # RFC 1951: last block, type 00
    assert zlib.decompress(stream) == b"".join(b"\0" + bytes(row) for row in pixels)
    assert len(stream) == 2 + 5 + 96 * 97 + 4
