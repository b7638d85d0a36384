"""From bytes to pixels: decoding as PIL decodes, cropping and bicubic resizing on uint8, and the network's input.

Speed comes from decoding JPEG and plain PNG with faster libraries that give PIL's pixels to the bit, and from resizing
without leaving uint8 (measured differences: tests/views/test_equivalence.py).
"""

import io
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from scfs.errors import ScfsError

Pixels = npt.NDArray[np.uint8]
"""(H, W, 3) RGB."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_resize = torch.ops.aten._upsample_bicubic2d_aa
"""F.interpolate(mode="bicubic", antialias=True); called directly, for only the operator writes into a given tensor."""


def decode(data: bytes, name: str) -> Pixels:
    """Decode the bytes of an image file: PIL's `convert("RGB")`, to the bit; EXIF rotation is ignored, as PIL does.

    Returns:
        (H, W, 3) uint8, contiguous and writable.

    Raises:
        ScfsError: `name` cannot be decoded, is cut off, or is larger than PIL's limit for decompression bombs.
    """
    fast = _decode_jpeg(data) if data[:2] == b"\xff\xd8" else _decode_plain_png(data)
    if fast is not None:
        return fast
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.array(image.convert("RGB"))
    except UnidentifiedImageError:
        raise ScfsError(f"{name}: not a readable image: unknown format, or its header is damaged") from None
    except Exception as error:  # PIL's parsers raise nearly anything on damaged files
        raise ScfsError(f"{name}: not a readable image: {error}") from error


def _decode_jpeg(data: bytes) -> Pixels | None:
    """Colour JPEG without any defect; None leaves the file to PIL."""
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
        if colorspace in ("YCbCr", "RGB") and _within_limit(height, width):
            return simplejpeg.decode_jpeg(data, "RGB", fastdct=False, fastupsample=False, strict=True)
    except ValueError:
        pass
    return None


def _decode_plain_png(data: bytes) -> Pixels | None:
    """PNG of 8-bit grey or RGB with nothing between header and pixels (no palette, transparency, gamma); else None."""
    header = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR"
    if not (data.startswith(header) and data[37:41] == b"IDAT" and data[-8:-4] == b"IEND"):
        return None
    width, height = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    if data[24:26] not in (b"\x08\x00", b"\x08\x02") or not _within_limit(height, width):
        return None
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    return None if pixels is None else np.asarray(pixels, np.uint8)


def _within_limit(height: int, width: int) -> bool:
    """Whether PIL would open an image of this size without a warning; beyond, PIL decides."""
    return Image.MAX_IMAGE_PIXELS is None or height * width <= Image.MAX_IMAGE_PIXELS


def _as_nchw(pixels: Pixels) -> Tensor:
    """(1, 3, H, W) view in channels_last strides, on which the resizing kernel needs no copies."""
    return torch.from_numpy(pixels[None]).permute(0, 3, 1, 2)


def crop_resize(image: Pixels, box: tuple[int, int, int, int], size: int, out: Pixels | None = None) -> Pixels:
    """Crop and resize, bicubic with antialiasing (PIL's resampling; passes first along rows, then along columns).

    Args:
        image: (H, W, 3).
        box: top, left, height, width in pixels.
        size: side of the result.
        out: (size, size, 3), contiguous, to write into.

    Returns:
        (size, size, 3): `out`, or a new array.
    """
    top, left, height, width = box
    if out is None:
        out = np.empty((size, size, 3), np.uint8)
    # The kernel would copy a part of an image into planes, and these back; a copy of its rows is a tenth of the time.
    part = np.ascontiguousarray(image[top : top + height, left : left + width])
    _resize.out(_as_nchw(part), [size, size], False, out=_as_nchw(out))
    return out


def resize_crop(image: Pixels, resize: int, crop: int) -> Pixels:
    """Evaluation view: shorter side to `resize` (bicubic, antialias), then the central square of side `crop`.

    Rounding of the longer side and of the crop's corner is torchvision's (Resize, CenterCrop).

    Returns:
        (crop, crop, 3), contiguous.
    """
    H, W = image.shape[:2]
    height, width = (resize, resize * W // H) if H <= W else (resize * H // W, resize)
    resized = np.empty((height, width, 3), np.uint8)
    _resize.out(_as_nchw(image), [height, width], False, out=_as_nchw(resized))
    top, left = round((height - crop) / 2), round((width - crop) / 2)
    return np.ascontiguousarray(resized[top : top + crop, left : left + crop])


def normalize(batch: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """ImageNet's mean and standard deviation, on the batch's own device.

    Args:
        batch: (B, H, W, 3) uint8.
        dtype: type of the result.

    Returns:
        (B, 3, H, W) in channels_last strides.
    """
    mean, std = _imagenet_statistics(batch.device)
    return batch.to(torch.float32).sub_(mean).div_(std).to(dtype).permute(0, 3, 1, 2)


@cache
def _imagenet_statistics(device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of pixel values, (3,) float32 each; kept, as every copy to a GPU waits for it."""
    mean, std = (torch.tensor(values, device=device) * 255 for values in (IMAGENET_MEAN, IMAGENET_STD))
    return mean, std
