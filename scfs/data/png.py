"""PNG files with the same bytes everywhere: stored deflate blocks, laid out here and not by some version of zlib.

Layout: PNG specification (ISO/IEC 15948), sections 5 and 11; RFC 1950 (zlib); RFC 1951, section 3.2.4 (stored blocks).
"""

import struct
import zlib

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
ZLIB_HEADER = b"\x78\x01"
LONGEST_BLOCK = 0xFFFF
COLOUR_TYPES = {2: 0, 3: 2}
"""Greyscale and truecolour, by the dimensions of the pixels."""


def encode(pixels: np.ndarray) -> bytes:
    """Encode an image, grey (H, W) or RGB (H, W, 3), uint8, as a PNG file."""
    height, width = pixels.shape[:2]
    rows = pixels.reshape(height, -1)
    filtered = np.zeros((height, rows.shape[1] + 1), np.uint8)  # each row begins with its filter: none
    filtered[:, 1:] = rows
    header = struct.pack(">2I5B", width, height, 8, COLOUR_TYPES[pixels.ndim], 0, 0, 0)
    return SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", _stored(filtered.tobytes())) + _chunk(b"IEND", b"")


def _stored(data: bytes) -> bytes:
    """Make a zlib stream of `data` without compression."""
    blocks = [ZLIB_HEADER]
    for start in range(0, len(data), LONGEST_BLOCK):
        block = data[start : start + LONGEST_BLOCK]
        last = start + LONGEST_BLOCK >= len(data)
        blocks.append(struct.pack("<B2H", last, len(block), len(block) ^ LONGEST_BLOCK) + block)
    return b"".join(blocks) + struct.pack(">I", zlib.adler32(data))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
