"""Backbones by name: their sizes, and what settings must know of them. scfs.model.backbones builds them."""

from dataclasses import dataclass

from scfs.config.registry import Registry


@dataclass(frozen=True)
class BackboneSpec:
    """Properties of a backbone that are known before it is built."""

    strides: tuple[int, int, int]
    """Pixels of a crop per position of the maps of layer2, layer3 and layer4."""
    patch: int | None = None
    """Side of a ViT's patches in pixels, of which the sides of crops must be multiples; None: not a ViT."""


@dataclass(frozen=True)
class ResNetSpec(BackboneSpec):
    """Size of a ResNet."""

    strides: tuple[int, int, int] = (8, 16, 32)
    bottleneck: bool = False
    """True for blocks of three convolutions."""
    blocks: tuple[int, int, int, int] = (2, 2, 2, 2)
    """Number of blocks of each layer."""
    width: int = 64
    """Channels of the stem."""
    small_stem: bool = False
    """True: a stem of 3 x 3 with stride 1 and no pooling, as in the field's trainings on 32-pixel images."""


@dataclass(frozen=True)
class ViTSpec(BackboneSpec):
    """Size of a vision transformer."""

    side: int = 224
    """Pixels of the images whose positions have embeddings of their own; for other sizes they are interpolated."""
    channels: int = 384
    blocks: int = 12
    heads: int = 6


def vit(patch: int, side: int, channels: int, blocks: int, heads: int) -> ViTSpec:
    """Describe a vision transformer."""
    return ViTSpec((patch, patch, patch), patch, side, channels, blocks, heads)


BACKBONES: Registry[BackboneSpec] = Registry("backbone")
BACKBONES.add("resnet18")(ResNetSpec(blocks=(2, 2, 2, 2)))
BACKBONES.add("resnet34")(ResNetSpec(blocks=(3, 4, 6, 3)))
BACKBONES.add("resnet50")(ResNetSpec(bottleneck=True, blocks=(3, 4, 6, 3)))
BACKBONES.add("resnet101")(ResNetSpec(bottleneck=True, blocks=(3, 4, 23, 3)))
BACKBONES.add("narrow_resnet18")(ResNetSpec(blocks=(2, 2, 2, 2), width=32))
for _depth, _blocks in ((18, (2, 2, 2, 2)), (50, (3, 4, 6, 3))):  # 15 times the products of the usual stem
    BACKBONES.add(f"small_stem_resnet{_depth}")(
        ResNetSpec(strides=(2, 4, 8), bottleneck=_depth == 50, blocks=_blocks, small_stem=True)
    )
BACKBONES.add("vit_small_16")(vit(16, side=224, channels=384, blocks=12, heads=6))
BACKBONES.add("vit_base_16")(vit(16, side=224, channels=768, blocks=12, heads=12))
BACKBONES.add("narrow_vit_8")(vit(8, side=64, channels=128, blocks=6, heads=4))  # unsourced: for small machines


def is_vit(backbone: str) -> bool:
    """True if the backbone of this name is a vision transformer.

    Raises:
        ScfsError: there is no such backbone.
    """
    return BACKBONES[backbone].patch is not None
