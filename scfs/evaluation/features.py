"""Features of a frozen encoder, streamed: only a batch of images and a block of features are held at a time."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from scfs.config.evaluation import Protocol
from scfs.data.manifest import ImageSet
from scfs.model.resnet import Backbone, pooled
from scfs.progress import track
from scfs.views.images import normalize, resize_crop
from scfs.views.reading import read_ahead, read_image

FORWARD_BATCH = 64
"""Images per forward pass; fixed, since the last bits of a feature can depend on it."""
BLOCK = 1024
"""Images whose features are handed on together."""

Show = Callable[[np.ndarray, int], np.ndarray]
"""Makes of a decoded image (H, W, 3) and its row what the encoder sees, (S, S, 3) uint8."""


@dataclass(frozen=True)
class FrozenEncoder:
    """A backbone in eval mode on its device, and how many processes decode images for it (0: this one)."""

    backbone: Backbone
    device: torch.device
    workers: int = 0

    @torch.no_grad()
    def maps(self, pixels: Tensor) -> dict[str, Tensor]:
        """Map images (B, S, S, 3) uint8 to the float32 maps of all layers, each (B, C_i, H_i, W_i)."""
        maps: dict[str, Tensor] = self.backbone(normalize(pixels.to(self.device)))
        return maps

    def features(self, pixels: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Map images (B, S, S, 3) uint8 to the pooled maps of `layers`, each (B, C_i) float32."""
        maps = self.maps(pixels)
        return {layer: pooled(maps[layer]) for layer in layers}


@dataclass(frozen=True)
class _ShownImages:
    images: ImageSet
    batches: list[np.ndarray]
    show: Show

    def __getitem__(self, index: int) -> Tensor:
        shown = [self.show(read_image(self.images, row), row) for row in self.batches[index].tolist()]
        return torch.from_numpy(np.stack(shown))


def clean_view(protocol: Protocol) -> Show:
    """View without augmentation: shorter side to `resize`, then the centre crop of side `crop`."""
    return partial(_clean, resize=protocol.resize, crop=protocol.crop)


def _clean(image: np.ndarray, row: int, resize: int, crop: int) -> np.ndarray:
    return resize_crop(image, resize, crop)


def split_rows(rows: np.ndarray, size: int) -> list[np.ndarray]:
    """Cut rows into pieces of `size`; the last one may be shorter."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def shown_batches(images: ImageSet, batches: list[np.ndarray], show: Show, workers: int, what: str) -> Iterator[Tensor]:
    """Read, decode and show the images of each batch of rows, in order, whatever `workers` is.

    Yields:
        (B, S, S, 3) uint8 for each of `batches`.

    Raises:
        ScfsError: an image cannot be decoded; names it.
    """
    shown = read_ahead(_ShownImages(images, batches, show), range(len(batches)), workers)
    yield from track(shown, f"{what} {images.name}/{images.split}", unit="batches", total=len(batches))


def stream(
    encoder: FrozenEncoder,
    images: ImageSet,
    layers: Sequence[str],
    show: Show,
    *,
    rows: np.ndarray | None = None,
    block: int = BLOCK,
    what: str = "features of",
) -> Iterator[dict[str, Tensor]]:
    """Pooled features of every image once, in the manifest's order or in that of `rows`.

    Yields:
        For each `block` images (the last ones may be fewer): layer -> (images, C_i) float32 on the encoder's device.
    """
    blocks = split_rows(np.arange(len(images)) if rows is None else rows, block)
    batches = [split_rows(part, FORWARD_BATCH) for part in blocks]
    pixels = shown_batches(images, [batch for part in batches for batch in part], show, encoder.workers, what)
    for part in batches:
        held = [encoder.features(next(pixels), layers) for _ in part]
        yield {layer: torch.cat([features[layer] for features in held]) for layer in layers}


def extract(encoder: FrozenEncoder, images: ImageSet, layers: Sequence[str], show: Show) -> dict[str, Tensor]:
    """Pooled features of a whole split: layer -> (n, C_i) float32 on the CPU, in the manifest's order."""
    features = {layer: torch.empty(len(images), encoder.backbone.channels[layer]) for layer in layers}
    done = 0
    for block in stream(encoder, images, layers, show):
        for layer, part in block.items():
            features[layer][done : done + len(part)] = part
        done += len(part)
    return features
