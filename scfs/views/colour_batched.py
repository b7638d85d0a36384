"""Flip, colour jitter, grey, blur, solarisation and normalisation of a whole batch of crops, for accelerators.

It uses the same parameters and rounds after each operation as `scfs.views.colour` does. Each crop comes with its
parameters; every operation is applied to every crop, and its result is used where the parameters say so.
tests/views/test_colour_batched.py holds both to PIL's results.
"""

from functools import cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scfs.errors import ScfsError
from scfs.io.progress import log
from scfs.views.augmentation import BRIGHTNESS, CONTRAST, HUE, SATURATION
from scfs.views.colour import BLUR_PASSES
from scfs.views.images import imagenet_statistics

Colour = Literal["cpu", "device"]
NUMBERS = ("flip", "jitter", "brightness", "contrast", "saturation", "hue", "grey", "solarize")
"""First columns of `device_parameters`; the jitter's order and half of the blur's kernel follow."""
JITTERS = 4
LUMA = (19595, 38470, 7471)
"""PIL's weights of red, green and blue in units of 1/65536; the weighted sum is exact in float32."""
TINY_HUE, TINY_SATURATION = 1e-4, 1e-3
"""Offsets of the codes before truncation, which keep exact codes above float32's error."""


def resolve_colour(name: str, device: torch.device) -> Colour:
    """Return where colours are augmented; "auto": on the device if it is an accelerator, else by the loader workers.

    Raises:
        ScfsError: the name is unknown.
    """
    known: dict[str, Colour] = {"auto": "cpu" if device.type == "cpu" else "device", "cpu": "cpu", "device": "device"}
    if name not in known:
        raise ScfsError(f"--colour {name}: not among {', '.join(known)}")
    return known[name]


def device_parameters(drawn: npt.NDArray[np.void], largest_sigma: float) -> npt.NDArray[np.float32]:
    """Convert augmentation parameters to the numbers that `augment_batch` needs.

    Args:
        drawn: (...) rows of `scfs.views.augmentation.PARAMETERS`.
        largest_sigma: largest standard deviation of the run's blurs, which gives the length of the kernels.

    Returns:
        (..., P) numbers.
    """
    numbers = [drawn[name].astype(np.float32) for name in NUMBERS]
    numbers[NUMBERS.index("hue")] = np.trunc(drawn["hue"] * 255).astype(np.int64) % 256
    kernels = half_kernels(np.where(drawn["blur"], drawn["sigma"], 0), largest_sigma)
    return np.concatenate((np.stack(numbers, -1), drawn["order"], kernels), -1, dtype=np.float32, casting="unsafe")


def half_kernels(sigma: npt.NDArray[np.float64], largest: float) -> npt.NDArray[np.float64]:
    """Compute extended boxes (see `scfs.views.colour.extended_box`) for one pass of blurs of standard deviations (...).

    Returns:
        (..., R + 1) weights of the middle and of each distance to it.
    """
    variance = (sigma * sigma / BLUR_PASSES)[..., None]
    whole = _whole(variance)
    end = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance) / (6 * (variance - (whole + 1) ** 2))
    distance = np.arange(int(_whole(np.asarray(largest * largest / BLUR_PASSES))) + 2)
    return np.where(distance <= whole, 1.0, np.where(distance == whole + 1, end, 0.0)) / (2 * (whole + end) + 1)


def _whole(variance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Compute the number of whole pixels on each side of an extended box."""
    return np.asarray(np.floor((np.sqrt(12 * variance + 1) - 1) / 2))


def augment_batch(crops: Tensor, numbers: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Augment and normalise crops on their own device; on a GPU the operations are compiled.

    Args:
        crops: (n, S, S, 3) uint8.
        numbers: (n, P) float32, rows of `device_parameters`.
        dtype: type of the result.

    Returns:
        (n, 3, S, S) in channels_last strides.
    """
    return _augmentation(crops.device.type)(crops, numbers, *imagenet_statistics(crops.device), dtype)


@cache
def _augmentation(device: str) -> Any:
    if device == "cpu":
        return _augment
    compiled = torch.compile(_augment, dynamic=False)

    def augmentation(*arguments: Any) -> Tensor:
        nonlocal compiled
        try:
            return compiled(*arguments)
        except torch._dynamo.exc.TorchDynamoException as error:
            log(f"colour on the device is not compiled, which is slower: {str(error).splitlines()[0]}")
            compiled = _augment
            return _augment(*arguments)

    return augmentation


def _augment(crops: Tensor, numbers: Tensor, mean: Tensor, std: Tensor, dtype: torch.dtype) -> Tensor:
    x = crops.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    columns = numbers[:, :, None, None, None].unbind(1)
    of = dict(zip(NUMBERS, columns, strict=False))
    order = columns[len(NUMBERS) : len(NUMBERS) + JITTERS]
    x = torch.where(of["flip"] > 0, x.flip(-1), x)
    for operation in order:
        x = torch.where(of["jitter"] > 0, _jittered(x, operation, of), x)
    x = torch.where(of["grey"] > 0, _luma(x), x)
    x = _blurred(x, list(columns[len(NUMBERS) + JITTERS :]))
    x = torch.where((of["solarize"] > 0) & (x >= 128), 255 - x, x)
    return ((x - mean.view(3, 1, 1)) / std.view(3, 1, 1)).to(dtype, memory_format=torch.channels_last)


def _luma(x: Tensor) -> Tensor:
    """Compute ITU-R 601 luma, PIL's mode L, (n, 1, S, S)."""
    red, green, blue = x.unbind(1)
    return ((LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue + 2**15) / 2**16).floor().unsqueeze(1)


def _jittered(x: Tensor, operation: Tensor, of: dict[str, Tensor]) -> Tensor:
    """Change brightness, contrast, saturation or hue, by crop; the first three blend with black, mean luma, or luma."""
    luma = _luma(x)
    mean = (luma.mean((2, 3), keepdim=True) + 0.5).floor()
    other = torch.where(operation == BRIGHTNESS, 0.0, torch.where(operation == CONTRAST, mean, luma))
    factor = torch.where(operation == BRIGHTNESS, of["brightness"], of["contrast"])
    factor = torch.where(operation == SATURATION, of["saturation"], factor)
    blended = (other + factor * (x - other)).clamp(0, 255).floor()
    return torch.where(operation == HUE, _with_hue(x, of["hue"]), blended)


def _with_hue(x: Tensor, shift: Tensor) -> Tensor:
    """Add `shift` (n, 1, 1, 1) to PIL's hue code, modulo 256, with PIL's codes of hue and saturation."""
    red, green, blue = x.unbind(1)
    value, least = x.amax(1), x.amin(1)
    chroma = value - least
    divisor = chroma.clamp(min=1)
    sixths = torch.where(
        red == value,
        (green - blue) / divisor,
        torch.where(green == value, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    turns = sixths / 6
    hue = ((turns - turns.floor()) * 255 + TINY_HUE).floor()
    saturation = (chroma / value.clamp(min=1) * 255 + TINY_SATURATION).floor() / 255
    shifted = torch.remainder(hue + shift[:, 0], 256) * (6 / 255)

    def channel(n: int) -> Tensor:
        k = torch.remainder(shifted + n, 6)
        return (value - value * saturation * torch.minimum(k, 4 - k).clamp(0, 1)).round()

    return torch.stack((channel(5), channel(3), channel(1)), 1)


def _blurred(x: Tensor, half: list[Tensor]) -> Tensor:
    """Blur in three passes along rows and three along columns, each rounded; a kernel with sigma 0 changes nothing.

    Args:
        x: (n, 3, S, S) whole numbers.
        half: weights (n, 1, 1, 1) of the middle and of each distance to it.
    """
    radius = len(half) - 1
    for dimension in (3, 2):
        padding = (radius, radius, 0, 0) if dimension == 3 else (0, 0, radius, radius)
        for _ in range(BLUR_PASSES):
            padded, size = torch.nn.functional.pad(x, padding, mode="replicate"), x.shape[dimension]
            total = half[0] * x
            for distance in range(1, radius + 1):
                before = padded.narrow(dimension, radius - distance, size)
                after = padded.narrow(dimension, radius + distance, size)
                total = total + half[distance] * (before + after)
            x = total.round()
    return x
