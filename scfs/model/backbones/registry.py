"""Backbones built by name, and what the rest of the package does with any of them.

The feature of the whole image is `image_feature` of the maps, as wide as layer4.
"""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from scfs.config.backbones import BACKBONES, BackboneSpec, ResNetSpec, ViTSpec
from scfs.config.registry import Registry
from scfs.model.backbones.base import Network
from scfs.model.backbones.resnet import Backbone, pooled

Maps = dict[str, Tensor]

CONSTRUCTORS: Registry[Callable[[], Network]] = Registry("backbone")
"""Classes of the backbones that are neither ResNets nor ViTs of this package."""
Added = TypeVar("Added", bound=Callable[[], Network])


def add_backbone(name: str, spec: BackboneSpec) -> Callable[[Added], Added]:
    """Make a decorator that adds a class as a backbone: for modules outside this package."""
    BACKBONES.add(name)(spec)
    return CONSTRUCTORS.add(name)


def build_backbone(name: str) -> Network:
    """Make the backbone of a name with random weights, drawn from torch's global generator.

    Raises:
        ScfsError: there is no backbone of this name.
    """
    spec = BACKBONES[name]
    if isinstance(spec, ResNetSpec):
        return Backbone(name)
    if isinstance(spec, ViTSpec):
        from scfs.model.backbones.vit import ViT  # here, so that ResNets need not wait for the import of timm

        return ViT(name)
    backbone = CONSTRUCTORS[name]()
    backbone.name = name
    return backbone


def image_feature(maps: Maps) -> Tensor:
    """Return the feature of the whole image, (B, C), float32 at least: `cls` if it is there, else pooled layer4."""
    cls = maps.get("cls")
    return pooled(maps["layer4"]) if cls is None else cls.to(torch.promote_types(cls.dtype, torch.float32))
