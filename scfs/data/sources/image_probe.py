"""The image probe: size and format of an encoded image, and whether it can be decoded."""

import hashlib
import io
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from PIL import ExifTags, Image

from scfs.errors import ScfsError

FORMATS = ("JPEG", "PNG")
"""Formats of images of one's own."""
OFFICIAL_FORMATS = ("JPEG", "PNG", "GIF", "BMP")
"""Oxford-IIIT Pets has GIF files among its .jpg; the loader decodes all of these."""
FORMAT_OF = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}


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


def probe_image(content: bytes, formats: tuple[str, ...] = FORMATS, whole: bool = True) -> ProbedImage:
    """Look at an encoded image; Pillow's decoders and hashing run outside Python's lock.

    Args:
        content: the file.
        formats: that are taken, in Pillow's words.
        whole: decode all of it, not the header alone.
    """
    try:
        with Image.open(io.BytesIO(content), formats=formats) as image:
            (width, height), kind = image.size, (image.format or "", image.mode)
            if whole:
                image.load()
    # Pillow's decoders meet broken files with many types of exception (SyntaxError and struct.error among them).
    except Exception as error:
        unknown = f"not a {' or '.join(formats)}"
        return ProbedImage(0, 0, b"", unknown if isinstance(error, Image.UnidentifiedImageError) else str(error))
    return ProbedImage(width, height, hashlib.sha256(content).digest(), None, kind)


def upright_size(path: Path) -> tuple[int, int]:
    """Return width and height of an image, turned as its EXIF data say: as most programs show it.

    Raises:
        ScfsError: it is gone or no image, or its EXIF data are damaged.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            turned = image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
            return image.size[::-1] if turned else image.size
    except Exception as error:  # see `probe_image`
        raise ScfsError(f"{path}: size cannot be read: {error}") from None


def format_mismatch(path: str, kind: tuple[str, str]) -> str | None:
    """Say if an image's format is not the one of its name, or if it has inks (CMYK) instead of light; None if neither.

    ImageNet has a PNG and CMYK JPEGs under .JPEG. Nothing has to be done about them: the loader goes by the content,
    and converts to RGB as Pillow does.
    """
    found, mode = kind
    if found != FORMAT_OF.get(PurePosixPath(path).suffix.lower(), found):
        return f"{found} in spite of its name"
    return f"{mode} instead of RGB" if mode in ("CMYK", "YCCK") else None
