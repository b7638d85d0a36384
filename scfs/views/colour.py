"""Flip, colour jitter, grey, blur and solarisation on uint8 crops, in place: PIL's results at OpenCV's speed.

Every operation rounds to uint8 before the next one begins, as PIL does; fused operations would skip the clamps.
Differences to PIL are rare (one value in 500) and small; tests/views/test_colour.py holds each operation to its bound.
"""

import math
import threading
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from scfs.views.augmentation import BRIGHTNESS, CONTRAST, HUE, SATURATION
from scfs.views.images import Pixels

# The pipeline is parallel over images; OpenCV's own threads would fight over the same cores.
cv2.setNumThreads(1)

TRUNCATE = -0.5 + 2.0**-13
"""Offset that turns OpenCV's rounding into truncation; 2^-13 keeps whole numbers above float32's error."""
BLUR_PASSES = 3
HSV_ENCODE = np.array([[255 / 360, 0, 0, 1e-4], [0, 255, 0, 1e-3], [0, 0, 1, 0]], np.float32)
"""Matrix from OpenCV's float HSV to PIL's codes before truncation; offsets keep codes above float32's error."""


class _Scratch:
    """Arrays that operations reuse: allocating memory took half of the time of the hue."""

    def __init__(self, height: int, width: int) -> None:
        self.rgb, self.luma = np.empty((height, width, 3), np.uint8), np.empty((height, width), np.uint8)
        self.floats = np.empty((2, height, width, 3), np.float32)
        self.words = np.empty((height, width, 3), np.uint16)


class _ScratchOfThread(threading.local):
    def __init__(self) -> None:
        self.of_shape = cache(_Scratch)


_scratch = _ScratchOfThread()


def augment(crop: Pixels, row: np.void) -> None:
    """Apply the augmentation parameters of a view, except the crop box, to a crop in place.

    Args:
        crop: (S, S, 3), contiguous.
        row: scalar of type `scfs.views.augmentation.PARAMETERS`.
    """
    if not crop.flags.c_contiguous:
        raise ValueError("crop must be contiguous: OpenCV would write into a copy")
    if row["flip"]:
        cv2.flip(crop, 1, crop)
    if row["jitter"]:
        _jitter(crop, row)
    if row["grey"]:
        cv2.cvtColor(_luma(crop), cv2.COLOR_GRAY2RGB, crop)
    if row["blur"]:
        blur(crop, float(row["sigma"]))
    if row["solarize"]:
        solarize(crop)


def _jitter(crop: Pixels, row: np.void) -> None:
    """Change brightness, contrast, saturation and hue in the order that the parameters say."""
    for operation in row["order"].tolist():
        name, change = JITTER[operation]
        change(crop, float(row[name]))


def _luma(crop: Pixels) -> Pixels:
    """Compute ITU-R 601 luma, PIL's mode L, (S, S); the next call overwrites it."""
    return np.asarray(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY, _scratch.of_shape(*crop.shape[:2]).luma), np.uint8)


def brighten(crop: Pixels, factor: float) -> None:
    """Blend with black: factor * x."""
    cv2.convertScaleAbs(crop, crop, factor, TRUNCATE)


def change_contrast(crop: Pixels, factor: float) -> None:
    """Blend with the crop's mean luma m, a whole number: m + factor * (x - m)."""
    mean = math.floor(cv2.mean(_luma(crop))[0] + 0.5)
    cv2.addWeighted(crop, factor, crop, 0.0, mean * (1 - factor) + TRUNCATE, crop)


def saturate(crop: Pixels, factor: float) -> None:
    """Blend with each pixel's luma g: g + factor * (x - g)."""
    grey = cv2.cvtColor(_luma(crop), cv2.COLOR_GRAY2RGB, _scratch.of_shape(*crop.shape[:2]).rgb)
    cv2.addWeighted(crop, factor, grey, 1 - factor, TRUNCATE, crop)


def shift_hue(crop: Pixels, turns: float) -> None:
    """Add to PIL's hue code, modulo 256; the shift is truncated to 1/255 turns, as in torchvision.

    PIL truncates hue and saturation to codes of 0-255. OpenCV's 8-bit HSV rounds them, a mean difference of 0.45 codes,
    so the codes are computed here from its float HSV (degrees, share, value). The way back has nothing to truncate:
    OpenCV's 8-bit conversion differs from PIL's in 92 of all 3 * 2^24 values, by 1.
    """
    scratch = _scratch.of_shape(*crop.shape[:2])
    (floats, hsv), codes, encode = scratch.floats, scratch.rgb, HSV_ENCODE.copy()
    encode[0, 3] += int(turns * 255) % 256
    np.copyto(floats, crop)
    cv2.transform(cv2.cvtColor(floats, cv2.COLOR_RGB2HSV, hsv), encode, floats)
    # Through uint16, from which the hue wraps correctly; a conversion from float to uint8 would be undefined.
    np.copyto(scratch.words, floats, casting="unsafe")
    np.copyto(codes, scratch.words, casting="unsafe")
    cv2.cvtColor(codes, cv2.COLOR_HSV2RGB_FULL, crop)


JITTER = {
    BRIGHTNESS: ("brightness", brighten),
    CONTRAST: ("contrast", change_contrast),
    SATURATION: ("saturation", saturate),
    HUE: ("hue", shift_hue),
}
"""Operations of the jitter, each with the name of its parameter."""


def blur(crop: Pixels, sigma: float) -> None:
    """Blur as PIL's GaussianBlur: three extended-box passes along rows, three along columns, each rounded to uint8."""
    kernel = extended_box(sigma / math.sqrt(BLUR_PASSES))
    source, target = crop, _scratch.of_shape(*crop.shape[:2]).rgb
    for oriented in (kernel[None, :], kernel[:, None]):
        for _ in range(BLUR_PASSES):
            cv2.filter2D(source, -1, oriented, target, borderType=cv2.BORDER_REPLICATE)
            source, target = target, source


def extended_box(sigma: float) -> npt.NDArray[np.float32]:
    """Compute a box filter with fractional ends and this standard deviation (Gwosdek et al., SSVM 2011): odd length."""
    variance = sigma * sigma
    whole = math.floor((math.sqrt(12 * variance + 1) - 1) / 2)
    end = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance) / (6 * (variance - (whole + 1) ** 2))
    total = 2 * (whole + end) + 1
    return np.array([end / total, *[1 / total] * (2 * whole + 1), end / total], np.float32)


def solarize(crop: Pixels) -> None:
    """Invert the values from 128 on, by taking the smaller of x and 255 - x."""
    cv2.min(crop, cv2.bitwise_not(crop), crop)
