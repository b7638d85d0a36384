"""Augmentation parameters: the numbers that say what happens to each view of each image.

They depend on (seed, epoch, image, view) alone. The pipeline of the CPUs, the one of GPUs (colour_batched) and the PIL
reference of the tests all read the same parameters.
"""

import itertools
import math

import numpy as np
import numpy.typing as npt

from scfs.config.pretrain import Views
from scfs.runtime.philox import philox4x32, seed_key, uniforms

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
ORDERS = np.array(list(itertools.permutations((BRIGHTNESS, CONTRAST, SATURATION, HUE))), np.int8)
GLOBAL_NUMBER = 2
TRIALS = 10
LOG_RATIO = (math.log(3 / 4), math.log(4 / 3))
CROP_BLOCKS = slice(3, 3 + TRIALS)

BOX = ("top", "left", "height", "width")
PARAMETERS = np.dtype(
    [
        *((name, np.int32) for name in BOX),
        *((name, np.bool_) for name in ("flip", "vertical_flip", "rotate90")),
        ("jitter", np.bool_),
        ("order", np.int8, (4,)),
        *((name, np.float64) for name in ("brightness", "contrast", "saturation", "hue")),
        ("grey", np.bool_),
        ("blur", np.bool_),
        ("sigma", np.float64),
        ("solarize", np.bool_),
    ]
)
"""Parameters of a view: crop box in pixels; which operations apply; order and factors of the jitter (hue in turns of
the colour circle); the blur's standard deviation in pixels."""


def augmentation_parameters(
    seed: int, epoch: int, rows: npt.ArrayLike, sizes: npt.ArrayLike, views: Views
) -> npt.NDArray[np.void]:
    """Draw the parameters of all views of some images.

    Args:
        seed: the run's seed.
        epoch: pass over the data.
        rows: (B,) rows of the images in their image set.
        sizes: (B, 2) heights and widths in pixels.
        views: crop scales, probabilities and ranges.

    Returns:
        (B, 2 + N) rows of type `PARAMETERS`: first global view, second, N local views.
    """
    rows, sizes = np.asarray(rows), np.asarray(sizes)
    local = views.local_number
    draws = _draws(seed, epoch, rows, GLOBAL_NUMBER + local)
    scale = np.array([views.global_scale] * GLOBAL_NUMBER + [views.local_scale] * local)
    blur = np.array([views.blur[0], views.blur[1], *[views.blur[2]] * local])
    solarize = np.array([0.0, views.solarize, *[0.0] * local])

    drawn = np.zeros(draws.shape[:2], PARAMETERS)
    boxes = random_boxes(draws[:, :, CROP_BLOCKS], sizes[:, None], scale)
    for index, name in enumerate(BOX):
        drawn[name] = boxes[..., index]
    u = np.moveaxis(draws[:, :, :3].reshape(*drawn.shape, 12), -1, 0)
    drawn["flip"] = u[0] < views.flip
    high, low = np.divmod(u[11] * 2**16, 1)  # two numbers out of one that was left over: no other draw moves
    drawn["vertical_flip"] = high / 2**16 < views.vertical_flip
    drawn["rotate90"] = low < views.rotate90
    drawn["jitter"] = u[1] < views.jitter
    drawn["grey"] = u[2] < views.grey
    drawn["blur"] = u[3] < blur
    drawn["brightness"] = _between(u[4], 1 - views.brightness, 1 + views.brightness)
    drawn["contrast"] = _between(u[5], 1 - views.contrast, 1 + views.contrast)
    drawn["saturation"] = _between(u[6], 1 - views.saturation, 1 + views.saturation)
    drawn["hue"] = _between(u[7], -views.hue, views.hue)
    drawn["sigma"] = _between(u[8], *views.sigma)
    drawn["solarize"] = u[9] < solarize
    drawn["order"] = ORDERS[(u[10] * len(ORDERS)).astype(np.int64)]
    return drawn


def _draws(seed: int, epoch: int, rows: npt.NDArray[np.integer], views: int) -> npt.NDArray[np.float64]:
    """Draw uniforms (B, V, blocks, 4): blocks 0 to 2 for colour, then one per trial of the crop."""
    counter = np.empty((len(rows), views, CROP_BLOCKS.stop, 4), np.uint32)
    counter[..., 0] = epoch
    counter[..., 1] = rows[:, None, None]
    counter[..., 2] = np.arange(views)[:, None]
    counter[..., 3] = np.arange(CROP_BLOCKS.stop)
    return uniforms(philox4x32(counter, seed_key(seed)))


def _between(u: npt.NDArray[np.float64], low: float, high: float) -> npt.NDArray[np.float64]:
    return low + (high - low) * u


def random_boxes(
    draws: npt.NDArray[np.float64], sizes: npt.NDArray[np.integer], scale: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    """Draw crop boxes by the rule of torchvision's RandomResizedCrop.

    Each is the first of ten trials that fits, with the area uniform and the aspect ratio log-uniform in [3/4, 4/3]; if
    none fits, it is the largest central box of an allowed ratio.

    Args:
        draws: (..., 10, 4) uniforms of each trial: area, ratio, top, left.
        sizes: (..., 2) heights and widths.
        scale: (..., 2) smallest and largest share of the image's area.

    Returns:
        (..., 4) top, left, height, width.
    """
    H, W = sizes[..., 0, None], sizes[..., 1, None]
    area = H * W * (scale[..., :1] + (scale[..., 1:] - scale[..., :1]) * draws[..., 0])
    ratio = np.exp(_between(draws[..., 1], *LOG_RATIO))
    width = np.rint(np.sqrt(area * ratio)).astype(np.int64)
    height = np.rint(np.sqrt(area / ratio)).astype(np.int64)
    fits = (width > 0) & (width <= W) & (height > 0) & (height <= H)
    # The maximum matters only for trials that do not fit, whose positions are not used.
    top = (draws[..., 2] * np.maximum(H - height + 1, 1)).astype(np.int64)
    left = (draws[..., 3] * np.maximum(W - width + 1, 1)).astype(np.int64)
    trials = np.stack((top, left, height, width), -1)
    first = np.take_along_axis(trials, fits.argmax(-1)[..., None, None], -2)[..., 0, :]
    return np.where(fits.any(-1, keepdims=True), first, _central_boxes(sizes))


def _central_boxes(sizes: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """Return the boxes (..., 4) of whole images, cut to the nearest allowed aspect ratio."""
    H, W = sizes[..., 0], sizes[..., 1]
    height = np.where(W / H < 3 / 4, np.rint(W / (3 / 4)), H).astype(np.int64)
    width = np.where(W / H > 4 / 3, np.rint(H * (4 / 3)), W).astype(np.int64)
    return np.stack(((H - height) // 2, (W - width) // 2, height, width), -1)
