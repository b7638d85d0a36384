"""The authors' way from a JPEG to the views: PIL and torchvision's transforms (v1), written out; the same as DINO's.

Same operations, order, probabilities and ranges as theirs; every crop ends as a normalised float32 tensor, as there.
"""

import io
import random

from PIL import Image, ImageFilter, ImageOps
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import transforms
from torchvision.transforms import InterpolationMode


class GaussianBlur:
    """With probability `p` a Gaussian blur of a radius drawn from 0.1 to 2 pixels."""

    def __init__(self, p: float) -> None:
        self.p = p

    def __call__(self, image: Image.Image) -> Image.Image:
        """Perhaps blurred."""
        if random.random() > self.p:
            return image
        return image.filter(ImageFilter.GaussianBlur(radius=random.uniform(0.1, 2.0)))


class Solarize:
    """With probability `p` invert the values from 128 on."""

    def __init__(self, p: float) -> None:
        self.p = p

    def __call__(self, image: Image.Image) -> Image.Image:
        """Perhaps solarised."""
        return ImageOps.solarize(image) if random.random() < self.p else image


class MultiCrop:
    """Two global crops of 224 pixels and eight local ones of 96, in this order."""

    def __init__(self, local_number: int = 8) -> None:
        colour = [
            transforms.RandomHorizontalFlip(0.5),
            transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.2, 0.1)], 0.8),
            transforms.RandomGrayscale(0.2),
        ]
        tensor = [
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]

        def view(size: int, scale: tuple[float, float], *last: object) -> transforms.Compose:
            crop = transforms.RandomResizedCrop(size, scale=scale, interpolation=InterpolationMode.BICUBIC)
            return transforms.Compose([crop, *colour, *last, *tensor])

        self.global_views = (
            view(224, (0.25, 1.0), GaussianBlur(1.0)),
            view(224, (0.25, 1.0), GaussianBlur(0.1), Solarize(0.2)),
        )
        self.local_view = view(96, (0.05, 0.25), GaussianBlur(0.5))
        self.local_number = local_number

    def __call__(self, image: Image.Image) -> list[Tensor]:
        """(3, S, S) float32 each."""
        return [
            *(view(image) for view in self.global_views),
            *(self.local_view(image) for _ in range(self.local_number)),
        ]


def load(data: bytes) -> Image.Image:
    """torchvision's default loader (ImageFolder)."""
    with io.BytesIO(data) as file:
        return Image.open(file).convert("RGB")


class ReferenceImages(Dataset[list[Tensor]]):
    """JPEG files in memory, repeated to `length` items; DataLoader's own collation makes a list of ten batches."""

    def __init__(self, files: list[bytes], length: int) -> None:
        self.files, self.length, self.views = files, length, MultiCrop()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> list[Tensor]:
        return self.views(load(self.files[index % len(self.files)]))
