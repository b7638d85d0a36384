"""A pre-trained encoder for one's own Python: `scfs.load`."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from scfs.config.pretrain import Views
from scfs.errors import ScfsError
from scfs.evaluation.features import FrozenEncoder
from scfs.model.backbones.base import Network
from scfs.model.backbones.registry import build_backbone, image_feature
from scfs.model.search import attention_map, search_query
from scfs.runtime import collectives
from scfs.runtime.device import resolve_device
from scfs.views.images import normalize, resize_crop
from scfs.weights.catalogue import find_weights
from scfs.weights.initial import read_initial
from scfs.weights.store import facts_of, load_backbone


class Encoder(nn.Module):
    """A backbone in eval mode, without gradients. S is the side in pixels of what it was trained on."""

    def __init__(self, backbone: Network, size: int, source: str) -> None:
        """Take a backbone, the side of its images in pixels, and what its weights are, for people."""
        super().__init__()
        backbone = backbone.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self.backbone, self.size, self.source = backbone, size, source

    def transform(self, image: Image.Image | np.ndarray | str | Path) -> Tensor:
        """Make the input of one image: shorter side to S (bicubic), the central square, ImageNet's mean and deviation.

        Args:
            image: of Pillow, (H, W, 3) uint8, or a file.

        Returns:
            (3, S, S) float32.
        """
        if isinstance(image, str | Path):
            with Image.open(image) as opened:
                image = opened.convert("RGB")
        pixels = np.array(image.convert("RGB") if isinstance(image, Image.Image) else image)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise ScfsError(f"transform: {pixels.dtype} {pixels.shape}: allowed are images of (H, W, 3) uint8")
        return normalize(torch.from_numpy(resize_crop(pixels, self.size, self.size))[None])[0]

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W) of `transform` to their features (B, C): pooled layer4, or a ViT's [CLS]."""
        return image_feature(self.backbone(images))

    def layers(self, images: Tensor) -> dict[str, Tensor]:
        """Map images (B, 3, H, W) to the maps of all layers, each (B, C_i, H_i, W_i)."""
        maps: dict[str, Tensor] = self.backbone(images)
        return {layer: values for layer, values in maps.items() if layer != "cls"}

    def attention(self, crops: Tensor, images: Tensor, layer: str = "layer4") -> Tensor:
        """Find what crops show in images (Eq. 5 and 6): the cosine of a crop's pooled map with every position.

        Args:
            crops: (B, 3, h, w); a single one searches all images.
            images: (B, 3, H, W).
            layer: whose maps are compared.

        Returns:
            (B, H_i, W_i), at most 1.
        """
        if layer not in self.backbone.channels:
            raise ScfsError(f"layer = {layer!r}: not among {sorted(self.backbone.channels)}")
        queries = search_query(self.layers(crops)[layer]).expand(len(images), -1)
        return attention_map(queries.unsqueeze(1), self.layers(images)[layer]).squeeze(1)


def load(weights: str | Path, *, encoder: str = "teacher", backbone: str | None = None) -> Encoder:
    """Load a pre-trained encoder.

    Args:
        weights: a file of ours, whatever its name; a file of another library, or an entry of our catalogue of public
            weights (scfs/weights/catalogue.yaml), with `backbone`.
        encoder: teacher or student, of a file of ours.
        backbone: architecture of others' weights, in the names of `scfs pretrain --help`.

    Raises:
        ScfsError: no such file, or it does not fit.
    """
    path, entry = find_weights(str(weights))
    if not path.is_file():
        raise ScfsError(f"{weights}: no such weights file")
    if facts_of(path):
        network, about = load_backbone(path, encoder)
        size = about.settings.get("views", {}).get("global_size", Views().global_size)
        return Encoder(network, size, f"{about.run}, trained by scfs" if "views" in about.settings else about.run)
    backbone = entry.backbone if entry and backbone is None else backbone
    if backbone is None:
        raise ScfsError(f"{weights}: not written by scfs: give its architecture, such as backbone='resnet50'")
    initial, network = read_initial(path, backbone), build_backbone(backbone)
    parts = {k.removeprefix("backbone."): v for k, v in initial.tensors.items() if k.startswith("backbone.")}
    network.load_state_dict(parts)
    return Encoder(network, Views().global_size, initial.source["file"])


def load_frozen(
    weights: str | Path, encoder: str, backbone: str | None, device: str, workers: int
) -> tuple[Encoder, FrozenEncoder]:
    """Load an encoder, and make it what the evaluations take, on this process's device; see `load`.

    Raises:
        ScfsError: see `load` and `scfs.runtime.device.resolve_device`.
    """
    model, where = load(weights, encoder=encoder, backbone=backbone), collectives.local_device(resolve_device(device))
    return model, FrozenEncoder(model.backbone.to(where), where, workers)
