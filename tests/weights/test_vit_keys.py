"""ViTs: timm's, torchvision's and DINO's files give their libraries' features, and come back unchanged.

They have all blocks and heads, and an eighth of the channels, as the other files of `layouts`.
"""

import argparse
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from layouts import SHARE, ProjectionHead, dino, encoder, save
from safetensors.torch import load_file
from torch import Tensor, nn

from scfs.config.pretrain import Imported
from scfs.errors import ScfsError
from scfs.model.backbones.registry import build_backbone
from scfs.weights import import_weights
from scfs.weights.export import export
from scfs.weights.store import load_backbone, load_weights

IMAGES = torch.randn(1, 3, 224, 224, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
pytestmark = pytest.mark.usefixtures("narrow")


def vit(name: str, seed: int = 0) -> nn.Module:
    """The library's own, narrow, where nothing is zero that it starts with."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if name == "vit_b_16":
            width, hidden = 768 // SHARE, 4 * 768 // SHARE
            model: nn.Module = torchvision.models.VisionTransformer(224, 16, 12, 12, width, hidden)
        else:
            model = timm.create_model(name, embed_dim={"s": 384, "b": 768}[name[4]] // SHARE)
        model = model.double().eval()
        for parameter in model.parameters():
            parameter.data += 0.02 * torch.randn_like(parameter)
    return model


def imported(path: Path, format: str, backbone: str, out: Path) -> None:
    settings = Imported(weights=str(path), format=format, backbone=backbone)  # type: ignore[arg-type]
    import_weights.import_weights(path, format, out, "theirs", settings)


def features(weights: Path, name: str, which: str = "teacher") -> Tensor:
    tensors, _ = load_weights(weights, f"{which}.backbone.")
    backbone = build_backbone(name).double().eval()
    backbone.load_state_dict(tensors, strict=True)
    with torch.no_grad():
        return backbone(IMAGES)["cls"]


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "backbone", "library", "other"),
    [
        ("vit_small_patch16_224", "vit_small_16", "timm", None),
        ("vit_b_16", "vit_base_16", "torchvision", "timm"),
    ],
)
def test_both_ways(name: str, backbone: str, library: str, other: str | None, tmp_path: Path) -> None:
    model = vit(name)
    state, out = model.state_dict(), tmp_path / "out.safetensors"
    imported(save(tmp_path / "w.pth", state), library, backbone, out)
    with torch.no_grad():
        scores = model(IMAGES)
    classifier, _ = load_weights(out, "teacher.classifier.")
    close(features(out, backbone) @ classifier["weight"].T + classifier["bias"], scores)
    assert load_backbone(out)[0].name == backbone
    export(out, library, "teacher", tmp_path / "back.safetensors")
    back = load_file(tmp_path / "back.safetensors")
    assert back.keys() == state.keys() and all(torch.equal(back[key], state[key]) for key in state)
    if other is None:
        with pytest.raises(ScfsError, match="vit_small_16 cannot be written as 'torchvision'"):
            export(out, "torchvision", "teacher", tmp_path / "none.safetensors")
        return
    export(out, other, "teacher", tmp_path / "other.safetensors")
    fresh = vit("vit_b_16" if other == "torchvision" else "vit_base_patch16_224", seed=9)
    fresh.load_state_dict(load_file(tmp_path / "other.safetensors"), strict=True)
    with torch.no_grad():
        close(fresh(IMAGES), scores)


def test_dinos_checkpoint(tmp_path: Path) -> None:
    """DINO's vision_transformer.py has timm's names (held by timm's own table, which loads its files unchanged)."""
    networks = [vit("vit_small_patch16_224", seed) for seed in (1, 2)]
    for network in networks:
        network.reset_classifier(0)  # type: ignore[operator]
    states = [
        encoder(network, ProjectionHead(384 // SHARE), wrapped=wrapped) for network, wrapped in zip(networks, (1, 0))
    ]
    out = tmp_path / "out.safetensors"
    imported(
        dino(tmp_path / "full.pth", *states, args=argparse.Namespace(arch="vit_small")), "dino", "vit_small_16", out
    )
    for which, network in zip(("student", "teacher"), networks, strict=True):
        with torch.no_grad():
            close(features(out, "vit_small_16", which), network(IMAGES))
    path = save(tmp_path / "backbone.pth", networks[1].state_dict())
    imported(path, "dino", "vit_small_16", out)
    with torch.no_grad():
        close(features(out, "vit_small_16"), networks[1](IMAGES))
    with pytest.raises(ScfsError, match=r"does not fit vit_base_16: 'cls_token' has shape .*are those of vit_small_16"):
        imported(path, "dino", "vit_base_16", tmp_path / "none.safetensors")
    with pytest.raises(ScfsError, match=r"does not fit resnet50: .*; its keys are those of vit_small_16"):
        imported(path, "dino", "resnet50", tmp_path / "none.safetensors")
    assert not (tmp_path / "none.safetensors").exists()
