"""Images and a stand-in image set for the tests of scfs.views."""

import io
from functools import cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from PIL import Image


@cache
def photograph() -> np.ndarray:
    """(600, 512, 3) the portrait of Grace Hopper that ships with Matplotlib."""
    path = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    return np.array(Image.open(path).convert("RGB"))


@cache
def painting(seed: int, height: int = 375, width: int = 500) -> np.ndarray:
    """(H, W, 3) a colourful image with the spectrum of natural ones: each octave of noise has half the next one's height."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), np.float32)
    for octave in range(2, 8):
        noise = rng.normal(size=(2**octave, 2**octave, 3)).astype(np.float32)
        total += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC) / 2 ** (octave - 2)
    return np.clip(120 + 45 * total, 0, 255).astype(np.uint8)


def natural_images() -> list[np.ndarray]:
    photo = photograph()
    return [photo, np.ascontiguousarray(photo[100:475, 5:505]), painting(0), painting(1, 480, 360)]


def encoded(pixels: np.ndarray | Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


class MemoryImages:
    """What the loader uses of scfs.data.manifest.ImageSet, over encoded images in memory."""

    name, split, root = "sample", "pretrain", Path("data/sample")

    def __init__(self, files: list[bytes], sizes: list[tuple[int, int]]) -> None:
        self.files = files
        self.paths = [f"images/pretrain/{index:05}.png" for index in range(len(files))]
        self.heights, self.widths = np.array(sizes, np.int32).reshape(-1, 2).T

    def __len__(self) -> int:
        return len(self.files)

    def read(self, row: int) -> bytes:
        return self.files[row]

    def where(self, row: int) -> str:
        return f"{self.root / self.paths[row]}"


def small_images(number: int) -> MemoryImages:
    """Distinct small PNG images of three sizes."""
    sizes = [((24, 30), (32, 32), (40, 20))[index % 3] for index in range(number)]
    return MemoryImages([encoded(painting(index, *size)) for index, size in enumerate(sizes)], sizes)
