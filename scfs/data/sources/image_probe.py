"""The image probe: size and format of an encoded image, and whether it can be decoded."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from threading import Lock, Semaphore
from typing import NamedTuple

from PIL import ExifTags, Image

from scfs.config.data import MAX_PIXELS
from scfs.data.decoding import JPEG, decode_fast, is_damaged, opened
from scfs.errors import refusing

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP")
"""Formats of images of one's own."""
OFFICIAL_FORMATS = ("JPEG", "PNG", "GIF", "BMP")
"""Oxford-IIIT Pets has GIF files among its .jpg; the loader decodes all of these."""
FORMAT_OF = {".jpg": "JPEG", ".jpeg": "JPEG", ".jfif": "JPEG", ".jpe": "JPEG", ".png": "PNG", ".webp": "WEBP"}
FORMAT_OF |= {".tif": "TIFF", ".tiff": "TIFF", ".bmp": "BMP"}


ONE_COLOUR, DAMAGED, TURNED = "of one colour", "damaged JPEGs", "with an EXIF turn"


class ProbedImage(NamedTuple):
    """Size, hash and format of a file, or its problem."""

    width: int
    height: int
    sha256: bytes
    """32 bytes; none if it cannot be decoded."""
    problem: str | None
    """Why it cannot be decoded."""
    kind: tuple[str, str] = ("", "")
    """Format and mode in Pillow's words, such as JPEG and CMYK."""
    notes: tuple[str, ...] = ()
    """`ONE_COLOUR`, `DAMAGED` and `TURNED` if it is; the first two are not known if the header alone was read."""


def probe_image(
    content: bytes, formats: tuple[str, ...] = FORMATS, whole: bool = True, max_pixels: int = MAX_PIXELS
) -> ProbedImage:
    """Look at an encoded image; decoders and hashing run outside Python's lock.

    Args:
        content: the file.
        formats: that are taken, in Pillow's words.
        whole: decode all of it, not the header alone.
        max_pixels: most pixels that are taken.
    """
    try:
        with opened(content, max_pixels, formats) as image:
            notes = []
            if whole:
                with _in_flight(image.width * image.height):
                    notes = _look_at(image, content, max_pixels)
            if _is_turned(image):
                notes.append(TURNED)
            (width, height), kind = image.size, (image.format or "", image.mode)
    except ValueError as error:
        return ProbedImage(0, 0, b"", str(error))
    return ProbedImage(width, height, hashlib.sha256(content).digest(), None, kind, tuple(notes))


def _look_at(image: Image.Image, content: bytes, max_pixels: int) -> list[str]:
    """Decode an image, and note what its pixels show."""
    is_jpeg = content.startswith(JPEG)
    pixels = decode_fast(content, max_pixels) if is_jpeg else None
    if pixels is not None:  # colour JPEG without a defect
        one_colour = (pixels[0] == pixels[0, 0]).all() and (pixels == pixels[0, 0]).all()
        return [ONE_COLOUR] * bool(one_colour)
    image.load()
    notes = [ONE_COLOUR] * (image.convert("RGB").getcolors(1) is not None)
    return notes + [DAMAGED] * (is_jpeg and is_damaged(content))


def _is_turned(image: Image.Image) -> bool:
    """True if EXIF data say to turn or mirror an image; Pillow turns TIFFs itself, and forgets it."""
    try:
        return "exif" in image.info and image.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9)
    except Exception:  # damaged EXIF data, which nobody needs
        return False


UNITS = 16
"""Sixteenths of MAX_PIXELS that all threads together may decode at a time: otherwise as many images as there are cores
would be in memory, of half a gigabyte each. A larger image is decoded alone."""
_turn, _free = Lock(), Semaphore(UNITS)


@contextmanager
def _in_flight(pixels: int) -> Iterator[None]:
    """Wait until so many pixels may be decoded, and decode them in the block."""
    units = min(UNITS, -(-pixels * UNITS // MAX_PIXELS))
    with _turn:
        for _ in range(units):
            _free.acquire()
    try:
        yield
    finally:
        _free.release(units)


def upright_size(path: Path) -> tuple[int, int]:
    """Return width and height of an image, turned as its EXIF data say: as most programs show it.

    Raises:
        ScfsError: it is gone or no image, or its EXIF data are damaged.
    """
    # For the many types of exception see `scfs.data.decoding.opened`.
    with refusing(f"{path}: size cannot be read", Exception), Image.open(path, formats=FORMATS) as image:
        turned = image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
        return image.size[::-1] if turned and image.format != "TIFF" else image.size  # those Pillow turns itself


def format_mismatch(path: str, kind: tuple[str, str]) -> str | None:
    """Say if an image's format is not the one of its name, or if it has inks (CMYK) instead of light; None if neither.

    ImageNet has a PNG and CMYK JPEGs under .JPEG. Nothing has to be done about them: the loader goes by the content,
    and converts to RGB as Pillow does.
    """
    found, mode = kind
    if found != FORMAT_OF.get(PurePosixPath(path).suffix.lower(), found):
        return f"{found} in spite of its name"
    return f"{mode} instead of RGB" if mode in ("CMYK", "YCCK") else None
