"""Decoding of image files, the same when a set is prepared, inspected and trained on.

It is fast because JPEG and plain PNG are decoded by faster libraries that give PIL's pixels to the bit.
"""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, PngImagePlugin

from scfs.config.data import MAX_PIXELS
from scfs.errors import refusing

# Threads that OpenCV starts here would make the loader's processes hang, which are forked.
cv2.setNumThreads(1)
# Pillow warns of more, and refuses twice as many, before it reads more than the header.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
# A text of 2 MB (a renderer's workflow, Photoshop's history) is no attack; all texts of a file have this limit too.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY
# What matters of what Pillow says is in the errors here; its warnings would be lines in the middle of a progress.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())

JPEG, TIFF = b"\xff\xd8", (b"II*\x00", b"MM\x00*")
"""First bytes of the formats."""
CONVERT = "convert it to RGB or grey of 8 bits"


def decode(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> npt.NDArray[np.uint8]:
    """Decode the bytes of an image file: PIL's `convert("RGB")`, to the bit; EXIF rotation is ignored, as PIL does.

    Returns:
        (H, W, 3) uint8, contiguous and writable.

    Raises:
        ScfsError: `name` cannot be decoded, is cut off, has more pixels than `max_pixels`, or more than 8 bits of grey.
    """
    fast = decode_fast(data, max_pixels)
    if fast is not None:
        return fast
    with refusing(f"{name}: not a readable image", ValueError), opened(data, max_pixels) as image:
        return np.array(image.convert("RGB"))


@contextmanager
def opened(data: bytes, max_pixels: int, formats: tuple[str, ...] | None = None) -> Iterator[Image.Image]:
    """Open an image with Pillow, which reads the header only; the block may load it.

    Args:
        data: the file.
        max_pixels: most pixels that are taken.
        formats: that are taken, in Pillow's words; None: all that it knows.

    Raises:
        ValueError: it cannot be opened, or loaded in the block, or is of a kind that is not taken: why, in plain words.
    """
    try:
        with Image.open(io.BytesIO(data), formats=formats) as image:
            if problem := _problem(image, max_pixels):
                raise ValueError(problem)
            yield image
    except Image.UnidentifiedImageError:
        unknown = "unknown format, or its header is damaged"
        if formats:
            unknown = f"not a {', '.join(formats[:-1])} or {formats[-1]}"
        several = f"a TIFF that Pillow cannot read, perhaps of more than four channels: {CONVERT}"
        raise ValueError(several if data.startswith(TIFF) and "TIFF" in (formats or "TIFF") else unknown) from None
    except Image.DecompressionBombError:
        raise ValueError(_too_large(f"more than {2 * MAX_PIXELS:,}", max_pixels)) from None
    # Pillow's decoders meet broken files with many types of exception (SyntaxError and struct.error among them).
    except Exception as error:
        if "MAX_TEXT" in str(error):
            limit = PngImagePlugin.MAX_TEXT_MEMORY >> 20
            raise ValueError(f"holds texts of more than {limit} MiB beside the pixels: save it without them") from None
        raise ValueError(f"{error}" or type(error).__name__) from error


def _problem(image: Image.Image, max_pixels: int) -> str | None:
    """Say why an image is not taken, though Pillow reads its header; None if it is."""
    if image.width * image.height > max_pixels:
        return _too_large(f"{image.width:,} x {image.height:,}", max_pixels)
    if image.mode[0] in "IF":  # which of 65,536 levels matter, nobody says: X-rays have 4,096, and would turn black
        return f"grey of more than 8 bits (Pillow's mode {image.mode}): {CONVERT}, with the range that matters"
    if image.format == "TIFF" and getattr(image, "is_animated", False):
        return "a TIFF of several pages: write each into a file of its own"
    return None


def _too_large(size: str, max_pixels: int) -> str:
    return f"{size} pixels by its header, at most {max_pixels:,} are taken (the setting max_pixels)"


def decode_fast(data: bytes, max_pixels: int) -> npt.NDArray[np.uint8] | None:
    """Decode a sound colour JPEG or a plain PNG, (H, W, 3); None leaves the file to PIL."""
    return _decode_jpeg(data, max_pixels) if data.startswith(JPEG) else _decode_plain_png(data, max_pixels)


def is_damaged(data: bytes) -> bool:
    """True if libjpeg complains about a JPEG that it decodes nevertheless, mostly with grey patches."""
    known = False  # of some kinds it does not know the header, and Pillow does
    try:
        known = bool(simplejpeg.decode_jpeg_header(data))
        simplejpeg.decode_jpeg(data, "GRAY", strict=True)
    except ValueError:
        return known
    return False


def _decode_jpeg(data: bytes, max_pixels: int) -> npt.NDArray[np.uint8] | None:
    """Decode a colour JPEG without any defect; None leaves the file to PIL."""
    with suppress(ValueError):
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
        if colorspace in ("YCbCr", "RGB") and height * width <= max_pixels:
            return simplejpeg.decode_jpeg(data, "RGB", fastdct=False, fastupsample=False, strict=True)
    return None


def _decode_plain_png(data: bytes, max_pixels: int) -> npt.NDArray[np.uint8] | None:
    """Decode a PNG of 8-bit grey or RGB with nothing between header and pixels (no palette, gamma, ...); else None."""
    header = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR"
    if not (data.startswith(header) and data[37:41] == b"IDAT" and data[-8:-4] == b"IEND"):
        return None
    width, height = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    if data[24:26] not in (b"\x08\x00", b"\x08\x02") or height * width > max_pixels:
        return None
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    return None if pixels is None else np.asarray(pixels, np.uint8)
