"""ViTs have timm's names and compute timm's features; blocks can be left out by crop."""

from dataclasses import replace

import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from scfs.config.backbones import BACKBONES, ViTSpec
from scfs.errors import ScfsError
from scfs.model.backbones.registry import build_backbone, image_feature
from scfs.model.backbones.vit import ViT


def pair(name: str) -> tuple[ViT, VisionTransformer]:
    """Ours and timm's own with our weights, in float64."""
    torch.manual_seed(1)
    spec = BACKBONES[name]
    side, channels, blocks, heads = spec.side, spec.channels, spec.blocks, spec.heads
    ours = build_backbone(name).double().eval()
    assert isinstance(ours, ViT)
    with torch.device("meta"):
        theirs = VisionTransformer(
            side, spec.patch, embed_dim=channels, depth=blocks, num_heads=heads, num_classes=0, dynamic_img_size=True
        )
    theirs.load_state_dict(ours.state_dict(), strict=True, assign=True)
    return ours, theirs.eval()


def images(side: int, number: int = 2) -> Tensor:
    return torch.randn(number, 3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(side))


@pytest.mark.parametrize(
    ("name", "side", "tolerance"),
    [
        ("vit_small_16", 224, 1e-12),
        ("vit_small_16", 96, 1e-5),  # timm interpolates the positions in float32
        ("vit_base_16", 64, 1e-5),
        ("narrow_vit_8", 64, 1e-12),
        ("narrow_vit_8", 32, 1e-5),
    ],
)
@torch.no_grad()
def test_maps_and_cls_are_timms(name: str, side: int, tolerance: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all blocks and heads, with an eighth of the channels of the paper's sizes."""
    spec = BACKBONES[name]
    assert isinstance(spec, ViTSpec)
    if spec.patch == 16:
        monkeypatch.setitem(BACKBONES._things, name, replace(spec, channels=spec.channels // 8))
    ours, theirs = pair(name)
    shown, grid, blocks = images(side), side // BACKBONES[name].patch, BACKBONES[name].blocks
    maps = ours(shown)
    features = theirs.forward_features(shown)
    torch.testing.assert_close(maps["cls"], features[:, 0], rtol=0, atol=tolerance)
    torch.testing.assert_close(image_feature(maps), features[:, 0], rtol=0, atol=tolerance)
    layer4 = features[:, 1:].transpose(1, 2).unflatten(2, (grid, grid))
    torch.testing.assert_close(maps["layer4"], layer4, rtol=0, atol=tolerance)
    inner = theirs.get_intermediate_layers(shown, [blocks // 2 - 1, 3 * blocks // 4 - 1], reshape=True)
    for layer, expected in zip(("layer2", "layer3"), inner, strict=True):
        torch.testing.assert_close(maps[layer], expected, rtol=0, atol=tolerance)
        assert ours.channels[layer] == expected.shape[1]
    last = theirs.get_intermediate_layers(shown, 4, return_prefix_tokens=True, norm=True)
    joined = torch.cat([prefix[:, 0] for _, prefix in last], dim=1)
    torch.testing.assert_close(ours(shown, cls_blocks=4)["cls"], joined, rtol=0, atol=tolerance)


def test_paper_sizes_are_timms() -> None:
    for ours, theirs in (("vit_small_16", "vit_small_patch16_224"), ("vit_base_16", "vit_base_patch16_224")):
        with torch.device("meta"):
            made, built = build_backbone(ours), timm.create_model(theirs, pretrained=False, num_classes=0)
        assert {k: v.shape for k, v in made.state_dict().items()} == {k: v.shape for k, v in built.state_dict().items()}


def test_initial_weights_are_dinos() -> None:
    torch.manual_seed(0)
    vit = build_backbone("vit_small_16")
    for name, parameter in vit.named_parameters():
        if name.startswith("patch_embed"):
            continue
        if name.endswith("norm.weight") or "norm1.weight" in name or "norm2.weight" in name:
            assert torch.equal(parameter, torch.ones_like(parameter)), name
        elif name.endswith(".bias"):
            assert torch.equal(parameter, torch.zeros_like(parameter)), name
        else:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.15), name
            assert parameter.abs().max() <= 2, name


@torch.no_grad()
def test_factors_leave_out_branches_of_single_crops() -> None:
    vit, _ = pair("narrow_vit_8")
    shown = images(32, 3)
    whole = vit(shown)
    ones = torch.ones(3, 6, 2)
    for layer, expected in vit(shown, ones).items():
        torch.testing.assert_close(expected, whole[layer], rtol=0, atol=1e-12)
    factors = ones.clone()
    factors[0] = 0  # nothing of any block is left
    factors[1, 5] = 0  # nothing of the last one
    maps = vit(shown, factors)
    embedded = vit.patch_embed(shown).permute(0, 3, 1, 2)[0]
    positions = vit._positions((4, 4))[0, 1:].T.unflatten(1, (4, 4))
    torch.testing.assert_close(maps["layer2"][0], embedded + positions)
    torch.testing.assert_close(maps["layer3"][1], whole["layer3"][1], rtol=0, atol=1e-12)
    assert not torch.allclose(maps["cls"][1], whole["cls"][1], atol=1e-3)
    for layer in whole:
        torch.testing.assert_close(maps[layer][2], whole[layer][2], rtol=0, atol=1e-12)
    # Of a single branch: the MLP of the first block, scaled by 2.
    factors = ones.clone()
    factors[:, 0, 1], factors[:, 1:] = 2, 0
    block = vit.blocks[0]
    x = vit.patch_embed(shown).flatten(1, 2)
    x = torch.cat([vit.cls_token.expand(3, -1, -1), x], 1) + vit._positions((4, 4))
    x = x + block.attn(block.norm1(x))
    x = x + 2 * block.mlp(block.norm2(x))
    torch.testing.assert_close(vit(shown, factors)["cls"], vit.norm(x)[:, 0])


def test_what_does_not_fit_is_one_line() -> None:
    vit = build_backbone("narrow_vit_8")
    with pytest.raises(ScfsError, match="narrow_vit_8: images of 36 x 36 pixels: allowed: multiples of 8"):
        vit(torch.zeros(1, 3, 36, 36))
    with pytest.raises(ScfsError, match="cls_blocks = 7: it has only 6 blocks"):
        vit(torch.zeros(1, 3, 32, 32), cls_blocks=7)
