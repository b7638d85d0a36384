"""PNG files with the same bytes everywhere: stored deflate blocks, laid out here and not by some version of zlib.

Layout: PNG specification (ISO/IEC 15948), sections 5 and 11; RFC 1950 (zlib); RFC 1951, section 3.2.4 (stored blocks).
"""

import struct
import zlib

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
ZLIB_HEADER = b"\x78\x01"
LONGEST_BLOCK = 0xFFFF
HEADER_AT = len(SIGNATURE) + 4
"""Offset of the header's type, data and checksum (PNG specification, ISO/IEC 15948, sections 5.3 and 11.2.1)."""
HEADER_LENGTH = 4 + 13 + 4
TRUE_COLOUR = 2


def encode_grey(pixels: np.ndarray) -> bytes:
    """Encode a grey image, (H, W) uint8, as a PNG file."""
    height, width = pixels.shape
    unfiltered = np.zeros((height, 1 + width), np.uint8)
    unfiltered[:, 1:] = pixels
    header = struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)
    data = _stored(unfiltered.tobytes())
    return SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


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


def encode_rgb(pixels: np.ndarray) -> bytes:
    """Encode an RGB image, (H, W, 3) uint8, as a PNG file."""
    height, width, _ = pixels.shape
    grey = encode_grey(pixels.reshape(height, 3 * width))
    header = struct.pack(">4s2I5B", b"IHDR", width, height, 8, TRUE_COLOUR, 0, 0, 0)
    header += struct.pack(">I", zlib.crc32(header))
    return grey[:HEADER_AT] + header + grey[HEADER_AT + HEADER_LENGTH :]
