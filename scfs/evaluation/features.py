"""Features of a frozen encoder, streamed: only a batch of images and a block of features are held at a time.

Several processes take the blocks in turn. Which images a forward pass sees together depends on no number of processes,
and so no bit of a feature does.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from scfs.config.backbones import is_vit
from scfs.config.protocol import ViewProtocol
from scfs.data.manifest import ImageSet
from scfs.errors import ScfsError
from scfs.io.progress import track
from scfs.model.backbones.base import Network
from scfs.model.backbones.registry import image_feature
from scfs.model.backbones.resnet import pooled
from scfs.runtime import collectives
from scfs.views.images import normalize, resize_crop
from scfs.views.workers import prefetch, read_image

FEATURE = "feature"
"""Name that stands among those of layers for the image's own feature: pooled layer4 of a ResNet, [CLS] of a ViT."""
FORWARD_BATCH = 64
"""Images per forward pass; fixed, since the last bits of a feature can depend on it."""
BLOCK = 1024
"""Images whose features are handed on together."""

Show = Callable[[np.ndarray, int], np.ndarray]
"""Function that makes the encoder's input (S, S, 3) uint8 from a decoded image (H, W, 3) and its row."""


@dataclass(frozen=True)
class FrozenEncoder:
    """A backbone in eval mode on its device, and how many processes decode images for it (0: this one)."""

    backbone: Network
    device: torch.device
    workers: int = 0
    classifier: nn.Linear | None = None
    """On the image's feature, on the same device; None unless the backbone was trained with labels."""
    classes: tuple[str, ...] = ()
    """Names of its classes."""
    cls_blocks: int = 1
    """Last blocks of a ViT whose [CLS] are joined to the image's feature."""

    @property
    def has_cls(self) -> bool:
        """True if the image's feature is a ViT's [CLS], not a pooled map."""
        return is_vit(self.backbone.name)

    def joining(self, cls_blocks: int) -> "FrozenEncoder":
        """Return the same encoder with another number of [CLS] in the image's feature.

        Raises:
            ScfsError: more than one, of a ResNet.
        """
        if cls_blocks > 1 and not self.has_cls:
            raise ScfsError(f"cls_blocks = {cls_blocks}: backbone {self.backbone.name} has no [CLS]; allowed: 1")
        return replace(self, cls_blocks=cls_blocks)

    def width(self, layer: str) -> int:
        """Return the length of a layer's pooled feature, or of the image's own."""
        return self.backbone.channels["layer4"] * self.cls_blocks if layer == FEATURE else self.backbone.channels[layer]

    @torch.no_grad()
    def maps(self, pixels: Tensor) -> dict[str, Tensor]:
        """Map images (B, S, S, 3) uint8 to the float32 maps of all layers, each (B, C_i, H_i, W_i).

        Raises:
            ScfsError: a number in them is not finite; what is computed from it would look like a result.
        """
        joined = {"cls_blocks": self.cls_blocks} if self.cls_blocks > 1 else {}
        maps: dict[str, Tensor] = self.backbone(normalize(pixels.to(self.device)), **joined)
        for layer, values in maps.items():
            if not bool(torch.isfinite(values).all()):
                raise ScfsError(f"{self.backbone.name}: its features ({layer}) are not finite: these weights overflow")
        return maps

    def features(self, pixels: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Map images (B, S, S, 3) uint8 to the pooled maps of `layers` (or `FEATURE`), each (B, C_i) float32."""
        maps = self.maps(pixels)
        return {layer: image_feature(maps) if layer == FEATURE else pooled(maps[layer]) for layer in layers}


@dataclass(frozen=True)
class _ShownImages:
    images: ImageSet
    batches: Sequence[np.ndarray]
    show: Show

    def __getitem__(self, index: int) -> Tensor:
        shown = [self.show(read_image(self.images, row), row) for row in self.batches[index].tolist()]
        return torch.from_numpy(np.stack(shown))


def clean_view(protocol: ViewProtocol) -> Show:
    """Make a view without augmentation: shorter side to `resize`, then the centre crop of side `crop`."""
    return partial(_clean, resize=protocol.resize, crop=protocol.crop)


def square_view(side: int) -> Show:
    """Make the view of one's own images, as of `scfs.load`: shorter side to `side`, then the central square."""
    return partial(_clean, resize=side, crop=side)


def _clean(image: np.ndarray, row: int, resize: int, crop: int) -> np.ndarray:
    return resize_crop(image, resize, crop)


def split_rows(rows: np.ndarray, size: int) -> list[np.ndarray]:
    """Cut rows into pieces of `size`; the last one may be shorter."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def batches_of(rows: np.ndarray) -> list[np.ndarray]:
    """Cut rows into the batches of forward passes."""
    return split_rows(rows, FORWARD_BATCH)


def blocks_of(images: ImageSet) -> list[np.ndarray]:
    """Cut all rows, in the manifest's order, into blocks."""
    return split_rows(np.arange(len(images)), BLOCK)


def shown_batches(
    images: ImageSet, batches: Sequence[np.ndarray], show: Show, workers: int, what: str
) -> Iterator[Tensor]:
    """Read, decode and show the images of each batch of rows, in order, whatever `workers` is.

    Yields:
        (B, S, S, 3) uint8 for each of `batches`.

    Raises:
        ScfsError: an image cannot be decoded; names it.
    """
    shown = prefetch(_ShownImages(images, batches, show), range(len(batches)), workers)
    yield from track(shown, f"{what} {images.name}/{images.split}", unit="batches", total=len(batches))


def own_features(
    encoder: FrozenEncoder, images: ImageSet, layers: Sequence[str], show: Show, blocks: list[np.ndarray], what: str
) -> Iterator[dict[str, Tensor]]:
    """Compute pooled features of the images in those blocks of rows that fall to this process.

    Yields:
        For each of `collectives.round_robin(blocks)`: layer -> (images, C_i) float32 on the encoder's device.
    """
    batches = [batches_of(block) for block in collectives.round_robin(blocks)]
    pixels = shown_batches(images, [batch for block in batches for batch in block], show, encoder.workers, what)
    for block in batches:
        held = [encoder.features(next(pixels), layers) for _ in block]
        yield {layer: torch.cat([features[layer] for features in held]) for layer in layers}


def stream(
    encoder: FrozenEncoder, images: ImageSet, layers: Sequence[str], show: Show, blocks: list[np.ndarray], what: str
) -> Iterator[dict[str, Tensor]]:
    """Compute pooled features of the images in all blocks of rows, in order, on all processes.

    Yields:
        For each block: layer -> (images, C_i) float32 on the encoder's device.
    """
    world, found = collectives.world(), own_features(encoder, images, layers, show, blocks, what)
    for first in range(0, len(blocks), world.size):
        own = next(found, {})  # all compute one of these blocks at once; then each hands its own to the others
        for rank, block in enumerate(blocks[first : first + world.size]):
            held = own if rank == world.rank else _room(encoder, layers, len(block))
            yield {layer: collectives.broadcast(held[layer], rank) for layer in layers}


def _room(encoder: FrozenEncoder, layers: Sequence[str], images: int) -> dict[str, Tensor]:
    return {layer: torch.empty(images, encoder.width(layer), device=encoder.device) for layer in layers}


def extract(encoder: FrozenEncoder, images: ImageSet, layers: Sequence[str], show: Show) -> dict[str, Tensor]:
    """Compute pooled features of a whole split, all of them on each process.

    Returns:
        layer -> (n, C_i) float32 on the CPU, in the manifest's order.
    """
    features = {layer: torch.empty(len(images), encoder.width(layer)) for layer in layers}
    done = 0
    for block in stream(encoder, images, layers, show, blocks_of(images), "features of"):
        for layer, part in block.items():
            features[layer][done : done + len(part)] = part
        done += len(part)
    return features


def evenly_spaced(images: ImageSet, most: int) -> np.ndarray:
    """Choose rows at even distances for a figure, so that a split sorted by class shows many classes."""
    number = min(most, len(images))
    return np.arange(number) * len(images) // number


def joined(parts: Iterable[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Join the arrays of batches, by name."""
    held = list(parts)
    return {name: np.concatenate([part[name] for part in held]) for name in held[0]}
