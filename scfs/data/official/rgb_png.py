"""RGB PNG files with the same bytes everywhere: those of a grey image three times as wide, but for the header."""

import struct
import zlib

import numpy as np

from scfs.data import grey_png

HEADER_AT = len(grey_png.SIGNATURE) + 4
"""Of the header's type, data and checksum (PNG specification, ISO/IEC 15948, sections 5.3 and 11.2.1)."""
HEADER_LENGTH = 4 + 13 + 4
TRUE_COLOUR = 2


def encode(pixels: np.ndarray) -> bytes:
    """PNG file of an RGB image, (H, W, 3) uint8."""
    height, width, _ = pixels.shape
    grey = grey_png.encode(pixels.reshape(height, 3 * width))
    header = struct.pack(">4s2I5B", b"IHDR", width, height, 8, TRUE_COLOUR, 0, 0, 0)
    header += struct.pack(">I", zlib.crc32(header))
    return grey[:HEADER_AT] + header + grey[HEADER_AT + HEADER_LENGTH :]
