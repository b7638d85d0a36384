"""Photographs that installed packages ship, cut to the sizes that the loader's benchmarks read."""

import io
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageOps

SHIPPED = {
    "skimage": ("data", ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")),
    "sklearn": ("datasets/images", ("china.jpg", "flower.jpg")),
    "matplotlib": ("mpl-data/sample_data", ("grace_hopper.jpg",)),
}
"""Package: its folder of images, and those that are colour photographs; only the files are read."""
IMAGENET = (500, 375)
"""Width and height of a typical image of ImageNet."""
IMAGENET_BYTES = 110_000
"""Mean size of ImageNet's files (1,281,167 images in 138 GiB)."""
CAMERA = (1600, 1200)
CAMERA_BYTES = 600_000


def photographs() -> list[Path]:
    """The photographs that this environment has."""
    found = []
    for package, (folder, names) in SHIPPED.items():
        spec = find_spec(package)
        for place in (spec.submodule_search_locations or []) if spec else []:
            found += [path for name in names if (path := Path(place) / folder / name).is_file()]
    return found


def jpegs(size: tuple[int, int], near: int, paths: list[Path] | None = None) -> list[bytes]:
    """Two cuts of each photograph, scaled to `size` (width, height): JPEG files (4:2:0) of about `near` bytes."""
    return [
        nearest_quality(cut, near)
        for path in (photographs() if paths is None else paths)
        for cut in cuts(Image.open(path).convert("RGB"), size)
    ]


def cuts(image: Image.Image, size: tuple[int, int]) -> Iterator[Image.Image]:
    """The whole photograph as far as it fills the shape, and four fifths of it from a corner."""
    width, height = image.size
    for part in (image, image.crop((0, height // 5, width * 4 // 5, height))):
        yield ImageOps.fit(part, size, Image.Resampling.BICUBIC)


def nearest_quality(image: Image.Image, near: int) -> bytes:
    """JPEG of the quality, between 50 and 98, whose size is nearest to `near` bytes."""
    low, high, best = 50, 98, b""
    while low <= high:
        quality = (low + high) // 2
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality, subsampling="4:2:0", optimize=True)
        data = buffer.getvalue()
        if not best or abs(len(data) - near) < abs(len(best) - near):
            best = data
        low, high = (quality + 1, high) if len(data) < near else (low, quality - 1)
    return best
