"""Backbones have torchvision's names and compute torchvision's features."""

import pytest
import torch
import torchvision

from scfs.config.backbones import BACKBONES
from scfs.config.pretrain import ProjectionHead as Settings
from scfs.model.backbones.registry import build_backbone, image_feature
from scfs.model.backbones.resnet import LAYERS, Backbone, pooled
from scfs.model.heads import ProjectionHead


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101"])
def test_equals_torchvision(name: str) -> None:
    theirs = torchvision.models.get_model(name).eval()
    theirs.fc = torch.nn.Identity()
    ours = build_backbone(name).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        maps = ours(images)
        assert torch.equal(image_feature(maps), theirs(images))
        x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(images))))
        for layer in LAYERS:
            x = getattr(theirs, layer)(x)
            assert torch.equal(maps[layer], x), layer
    for index, layer in enumerate(LAYERS):  # strides 4, 8, 16, 32
        assert maps[layer].shape == (2, ours.channels[layer], 16 >> index, 16 >> index)


def test_the_narrow_one_has_the_same_names_and_half_the_channels() -> None:
    narrow, wide = Backbone("narrow_resnet18"), Backbone("resnet18")
    assert list(narrow.state_dict()) == list(wide.state_dict())
    assert narrow.channels == {layer: channels // 2 for layer, channels in wide.channels.items()}


@pytest.mark.parametrize("depth", [18, 50])
def test_the_small_stem_is_torchvisions_network_as_cifar_has_it(depth: int) -> None:
    theirs = torchvision.models.get_model(f"resnet{depth}").eval()
    theirs.conv1 = torch.nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
    theirs.maxpool, theirs.fc = torch.nn.Identity(), torch.nn.Identity()
    ours = build_backbone(f"small_stem_resnet{depth}").eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        maps = ours(images)
        assert torch.equal(image_feature(maps), theirs(images))
    assert tuple(16 // maps[layer].shape[-1] for layer in LAYERS[1:]) == BACKBONES[ours.name].strides


def test_pooling_of_bf16_maps_is_summed_in_float32() -> None:
    feature_map = torch.full((1, 1, 40, 40), 1.0).to(torch.bfloat16)
    feature_map[0, 0, 0, 0] = 2.0
    assert pooled(feature_map).dtype == torch.float32
    assert pooled(feature_map).item() == pytest.approx(1601 / 1600)


def test_batch_norm_in_the_projection_head_is_optional() -> None:
    plain, normed = (
        ProjectionHead(8, Settings(hidden=6, bottleneck=4, prototypes=5, batch_norm=b)) for b in (False, True)
    )
    assert [name for name in normed.state_dict() if "running_mean" in name] == [
        "mlp.1.running_mean",
        "mlp.4.running_mean",
    ]
    assert not [name for name in plain.state_dict() if "running" in name]
    logits = normed(torch.randn(7, 8))
    assert logits.shape == (7, 5) and logits.abs().max() <= 1 + 1e-6  # cosines: both factors have length one
