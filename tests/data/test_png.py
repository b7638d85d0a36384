import io
import zlib

import numpy as np
import pytest
from PIL import Image

from scfs.data.decoding import decode
from scfs.data.png import encode


@pytest.mark.parametrize("shape", [(1, 1), (96, 96), (300, 500)])
def test_pillow_reads_the_same_grey_pixels(shape):
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


@pytest.mark.parametrize("shape", [(1, 1, 3), (32, 32, 3), (150, 200, 3)])
def test_pillow_and_our_decoder_read_the_same_rgb_pixels(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    content = encode(pixels)
    with Image.open(io.BytesIO(content)) as image:
        image.verify()
    with Image.open(io.BytesIO(content)) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        np.testing.assert_array_equal(np.asarray(image), pixels)
    np.testing.assert_array_equal(decode(content, "image"), pixels)


def test_views_of_other_arrays():
    planes = np.random.default_rng(0).integers(0, 256, (3, 32, 16), np.uint8)
    pixels = planes.transpose(1, 2, 0)
    assert encode(pixels) == encode(np.ascontiguousarray(pixels))


def test_bytes_by_hand():
    """One red pixel: a stored block of the filter byte and three values; sums by `zlib` of Python 3.11."""
    wanted = "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    data = "7801010400fbff00ff0000"
    content = encode(np.array([[[255, 0, 0]]], np.uint8)).hex()
    assert content.startswith(wanted + "0000000f49444154" + data)
