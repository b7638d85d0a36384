"""All backbones by name, and what the rest of the package knows of any of them.

A backbone maps images (B, 3, H, W) to its layer maps and has their `channels` by layer. What stands for the whole image
is `image_feature` of the maps, as wide as layer4.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from scfs.config.pretrain import PATCH
from scfs.model.backbones.resnet import ARCHITECTURES, Backbone, pooled

if TYPE_CHECKING:
    from scfs.model.backbones.vit import ViT

NAMES = (*ARCHITECTURES, *PATCH)
Maps = dict[str, Tensor]


def build_backbone(name: str) -> "Backbone | ViT":
    """Make one of `NAMES` with random weights, drawn from torch's global generator."""
    if name not in PATCH:
        return Backbone(name)
    from scfs.model.backbones.vit import ViT  # here, so that ResNets need not wait for the import of timm

    return ViT(name)


def image_feature(maps: Maps) -> Tensor:
    """Feature of the whole image, (B, C), float32 at least: a ViT's [CLS] after the norm, a ResNet's pooled layer4."""
    cls = maps.get("cls")
    return pooled(maps["layer4"]) if cls is None else cls.to(torch.promote_types(cls.dtype, torch.float32))


def student_maps(
    backbone: nn.Module, global_crops: Tensor, local_crops: Tensor | None, drop_path: Tensor | None
) -> tuple[Maps, Maps | None]:
    """Maps of the global and of the local crops: two calls, so that BatchNorm sees them apart (authors' code).

    Args:
        backbone: the student's.
        global_crops: (2*B, 3, S, S), crop-major.
        local_crops: (N*B, 3, s, s), crop-major; None for N = 0.
        drop_path: see `scfs.model.backbones.drop_path`, ((2 + N)*B, blocks, 2); None: nothing is left out.
    """
    first = len(global_crops)
    calls = [global_crops] if local_crops is None else [global_crops, local_crops]
    factors = [()] * 2 if drop_path is None else [(drop_path[:first],), (drop_path[first:],)]
    maps = [backbone(crops, *extra) for crops, extra in zip(calls, factors)]
    return maps[0], None if local_crops is None else maps[1]
