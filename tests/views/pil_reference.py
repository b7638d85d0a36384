"""The authors' augmentation (DINO's: PIL images, torchvision's functions), with the same augmentation parameters."""

import numpy as np
import torchvision.transforms.functional as F
from PIL import Image, ImageFilter, ImageOps
from torchvision.transforms import InterpolationMode

JITTER = (
    ("brightness", F.adjust_brightness),
    ("contrast", F.adjust_contrast),
    ("saturation", F.adjust_saturation),
    ("hue", F.adjust_hue),
)


def crop(image: Image.Image, row: np.void, size: int) -> Image.Image:
    box = (int(row[name]) for name in ("top", "left", "height", "width"))
    return F.resized_crop(image, *box, [size, size], InterpolationMode.BICUBIC)


def augment(image: Image.Image, row: np.void) -> Image.Image:
    if row["flip"]:
        image = F.hflip(image)
    if row["jitter"]:
        for operation in row["order"]:
            name, apply = JITTER[operation]
            image = apply(image, float(row[name]))
    if row["grey"]:
        image = F.rgb_to_grayscale(image, num_output_channels=3)
    if row["blur"]:
        image = image.filter(ImageFilter.GaussianBlur(float(row["sigma"])))
    if row["solarize"]:
        image = ImageOps.solarize(image)
    return image


def view(pixels: np.ndarray, row: np.void, size: int) -> np.ndarray:
    return np.asarray(augment(crop(Image.fromarray(pixels), row, size), row))
