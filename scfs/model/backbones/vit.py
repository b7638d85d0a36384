"""Vision transformers in timm's parameter names, which are DINO's, that return maps of their patch tokens."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from scfs.config.backbones import BACKBONES, ViTSpec
from scfs.errors import ScfsError
from scfs.model.backbones.base import Network
from scfs.model.ops.activation_checkpointing import checkpointed


class ViT(VisionTransformer, Network):
    """A timm VisionTransformer without its classifier.

    `layer2`, `layer3`, `layer4` are the patch tokens after the blocks at 1/2, 3/4 and the end (unsourced: the authors'
    code has no ViT search). The final norm is applied to layer4 and [CLS], as in timm's and DINO's features, and not to
    the other two.
    """

    pos_embed: nn.Parameter
    cls_token: nn.Parameter

    def __init__(self, name: str) -> None:
        spec = BACKBONES[name]
        assert isinstance(spec, ViTSpec) and spec.patch is not None
        channels, blocks = spec.channels, spec.blocks
        sizes: dict[str, Any] = {"embed_dim": channels, "depth": blocks, "num_heads": spec.heads}
        super().__init__(spec.side, spec.patch, **sizes, num_classes=0, dynamic_img_size=True, weight_init="skip")
        self.name, self.patch = name, spec.patch
        self.channels = dict.fromkeys(("layer2", "layer3", "layer4"), channels)
        self.inner_layers = {blocks // 2: "layer2", 3 * blocks // 4: "layer3"}
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        for module in self.modules():  # DINO's; the patches' convolution and the norms stay at PyTorch's
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(  # type: ignore[override]  # timm gives a vector
        self, images: Tensor, drop_path: Tensor | None = None, cls_blocks: int = 1
    ) -> dict[str, Tensor]:
        """Map images (B, 3, H, W) to the layer maps, each (B, C, H / patch, W / patch), and `cls`, (B, cls_blocks * C).

        Args:
            images: sides are multiples of the patch.
            drop_path: factors of the residual branches, see `drop_path`, (B, blocks, 2); None: all are 1.
            cls_blocks: last blocks whose normed [CLS] are joined, the last one's last (DINO's linear probing).

        Raises:
            ScfsError: a side is not a multiple of the patch, or there are fewer blocks.
        """
        height, width = images.shape[2:]
        if height % self.patch or width % self.patch:
            raise ScfsError(f"{self.name}: images of {height} x {width} pixels: allowed: multiples of {self.patch}")
        if cls_blocks > len(self.blocks):
            raise ScfsError(f"{self.name}: cls_blocks = {cls_blocks}: it has only {len(self.blocks)} blocks")
        grid = height // self.patch, width // self.patch
        maps: dict[str, Tensor] = {}
        tokens: list[Tensor] = []
        for number, x in enumerate(self._after_blocks(images, grid, drop_path), start=1):
            if number in self.inner_layers:
                maps[self.inner_layers[number]] = _as_map(x, grid)
            if number > len(self.blocks) - cls_blocks:
                tokens.append(x)
        normed = [self.norm(x) for x in tokens]
        maps["layer4"] = _as_map(normed[-1], grid)
        maps["cls"] = torch.cat([x[:, 0] for x in normed], dim=1)
        return maps

    def _after_blocks(self, images: Tensor, grid: tuple[int, int], drop_path: Tensor | None) -> Iterator[Tensor]:
        """Yield the tokens after each block, (B, 1 + H*W, C): [CLS], then the patches row by row."""
        patches = self.patch_embed(images).flatten(1, 2)
        x = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1) + self._positions(grid)
        again = self.activation_checkpointing and torch.is_grad_enabled()
        for index, block in enumerate(self.blocks):
            through = partial(_through, block, factors=None if drop_path is None else drop_path[:, index])
            x = checkpointed(through, x, block) if again else through(x)
            yield x

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        """Interpolate the position embeddings to a grid, (1, 1 + H*W, C), as timm does, in their own precision."""
        own: tuple[int, int] = self.patch_embed.grid_size
        if grid == own:
            return self.pos_embed
        of_cls, of_patches = self.pos_embed[:, :1], self.pos_embed[:, 1:].unflatten(1, own).permute(0, 3, 1, 2)
        resized = F.interpolate(of_patches, size=grid, mode="bicubic", antialias=True)
        return torch.cat([of_cls, resized.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


def _through(block: Any, x: Tensor, factors: Tensor | None) -> Tensor:
    """Apply a block to tokens (B, L, C), with its branches' outputs multiplied by `factors` (B, 2)."""
    if factors is None:
        out: Tensor = block(x)
        return out
    attention, mlp = factors.to(x.dtype)[:, :, None, None].unbind(1)
    x = x + attention * block.attn(block.norm1(x))
    return x + mlp * block.mlp(block.norm2(x))


def _as_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Reshape the patch tokens of (B, 1 + H*W, C) to a map (B, C, H, W)."""
    return tokens[:, 1:].transpose(1, 2).unflatten(2, grid)
