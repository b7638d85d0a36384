"""Cropping and bicubic resizing on uint8, and normalisation for the network.

It is fast because resizing stays in uint8 (measured differences: tests/views/test_equivalence.py).
"""

from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Pixels = npt.NDArray[np.uint8]
"""An RGB image, (H, W, 3)."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_resize = torch.ops.aten._upsample_bicubic2d_aa
"""Operator of F.interpolate(mode="bicubic", antialias=True), which alone can write into a given tensor."""


def _as_nchw(pixels: Pixels) -> Tensor:
    """View pixels as (1, 3, H, W) in channels_last strides, for which the resizing kernel makes no copies."""
    return torch.from_numpy(pixels[None]).permute(0, 3, 1, 2)


def _resized(image: Pixels, height: int, width: int, out: Pixels | None = None) -> Pixels:
    out = np.empty((height, width, 3), np.uint8) if out is None else out
    _resize.out(_as_nchw(image), [height, width], False, out=_as_nchw(out))
    return out


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
    # Given a part of an image, the kernel would copy it into planes and back, ten times the time of this copy.
    part = np.ascontiguousarray(image[top : top + height, left : left + width])
    return _resized(part, size, size, out)


def resize_crop(image: Pixels, resize: int, crop: int) -> Pixels:
    """Make the evaluation view: resize the shorter side to `resize` (bicubic, antialias), crop a central square.

    Rounding of the longer side and of the crop's corner is torchvision's (Resize, CenterCrop).

    Returns:
        (crop, crop, 3), contiguous.
    """
    H, W = image.shape[:2]
    height, width = (resize, resize * W // H) if H <= W else (resize * H // W, resize)
    resized = _resized(image, height, width)
    top, left = round((height - crop) / 2), round((width - crop) / 2)
    return np.ascontiguousarray(resized[top : top + crop, left : left + crop])


def normalize(batch: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normalise by ImageNet's mean and standard deviation, on the batch's own device.

    Args:
        batch: (B, H, W, 3) uint8.
        dtype: type of the result.

    Returns:
        (B, 3, H, W) in channels_last strides.
    """
    # For whole rows: broadcasting three values takes a CPU four times as long.
    mean, std = (values.repeat(batch.shape[2]) for values in imagenet_statistics(batch.device))
    pixels = batch.flatten(2).to(torch.float32).sub_(mean).div_(std).to(dtype)
    return pixels.view(batch.shape).permute(0, 3, 1, 2)


@cache
def imagenet_statistics(device: torch.device) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of pixel values, (3,) float32 each; cached, as a copy to a GPU waits."""
    mean, std = (torch.tensor(values, device=device) * 255 for values in (IMAGENET_MEAN, IMAGENET_STD))
    return mean, std
