"""Files as other libraries and training codes write them, with random weights in float64.

The networks are the libraries' own at full depth and an eighth of the width: a layout is about names and their order.
test_published_names.py compares names and shapes of the full width, without values.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from scfs.config.backbones import BACKBONES, ResNetSpec, ViTSpec
from scfs.config.pretrain import SearchHead as SearchSettings
from scfs.model.heads import SearchHead

Tensors = dict[str, Tensor]
Library = Callable[..., nn.Module]
SHARE = 8
"""The networks here have an eighth of the channels."""
RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101")
VITS = ("vit_small_16", "vit_base_16")


def narrow_backbones(patch: pytest.MonkeyPatch) -> None:
    """Let the names of our backbones mean the narrow ones, until the end of a test."""
    for name in (*RESNETS, *VITS):
        spec = BACKBONES[name]
        assert isinstance(spec, ResNetSpec | ViTSpec)
        width = {"width": spec.width // SHARE} if isinstance(spec, ResNetSpec) else {"channels": spec.channels // SHARE}
        patch.setitem(BACKBONES._things, name, replace(spec, **width))  # type: ignore[arg-type]


def network(name: str, library: str = "torchvision", seed: int = 0, **options: Any) -> nn.Module:
    """The library's own ResNet, narrow, whose BatchNorm statistics are not the initial ones either."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = _narrow(library_model(name, library, **options)).double()
        _disturb(model)
    return model.eval()


def library_model(name: str, library: str, **options: Any) -> nn.Module:
    """The library's own network of this name in its own size, without values."""
    make: Library = torchvision.models.get_model if library == "torchvision" else timm.create_model
    with torch.device("meta"):
        return make(name, **options)


def _narrow(model: nn.Module) -> nn.Module:
    """Put a narrow layer with random weights in the place of each layer of a ResNet."""
    for parent in list(model.modules()):
        for name, old in parent.named_children():
            if isinstance(old, nn.Conv2d):
                inputs = 3 if old.in_channels == 3 else old.in_channels // SHARE
                sizes = old.kernel_size, old.stride, old.padding
                setattr(parent, name, nn.Conv2d(inputs, old.out_channels // SHARE, *sizes, bias=False))  # type: ignore[arg-type]
            elif isinstance(old, nn.BatchNorm2d):
                setattr(parent, name, nn.BatchNorm2d(old.num_features // SHARE))
            elif isinstance(old, nn.Linear):
                setattr(parent, name, nn.Linear(old.in_features // SHARE, old.out_features))
    return model


def _disturb(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 2)  # type: ignore[arg-type]
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)


def without_classifier(model: nn.Module) -> nn.Module:
    """As DINO's and the authors' code do it."""
    model.fc = nn.Identity()
    return model


class ProjectionHead(nn.Module):
    """DINO's, built from PyTorch's own parts."""

    def __init__(self, inputs: int, *, batch_norm: bool = False, depth: int = 3, norm: str = "old") -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index in range(depth):
            outputs = 6 if index < depth - 1 else 4
            layers.append(nn.Linear(inputs, outputs))
            if index < depth - 1:
                layers += [nn.BatchNorm1d(outputs)] * batch_norm + [nn.GELU()]
            inputs = outputs
        self.mlp = nn.Sequential(*layers)
        self.last_layer = nn.Linear(4, 5, bias=False)
        if norm == "old":
            self.last_layer = nn.utils.weight_norm(self.last_layer)
        elif norm == "new":
            self.last_layer = nn.utils.parametrizations.weight_norm(self.last_layer)


def encoder(backbone: nn.Module, head: nn.Module, inside: str = "backbone.", wrapped: bool = True) -> Tensors:
    """State of one encoder in a checkpoint."""
    start = "module." if wrapped else ""
    state = {f"{start}{inside}{key}": value for key, value in backbone.state_dict().items()}
    return state | {f"{start}head.{key}": value for key, value in head.state_dict().items()}


def dino(path: Path, student: Tensors, teacher: Tensors, **beside: Any) -> Path:
    """main_dino.py's `save_dict`: the command line is in it as a Namespace."""
    rest = {"optimizer": {"state": {}}, "epoch": 3, "args": argparse.Namespace(arch="resnet50"), "dino_loss": {}}
    torch.save({"student": student, "teacher": teacher, **rest, **beside}, path)
    return path


def official(path: Path, name: str = "resnet18", channels: tuple[int, ...] = (16, 32, 64)) -> dict[str, nn.Module]:
    """main_scfs.py's `save_dict`: both encoders under DistributedDataParallel, the backbone in torchextractor."""
    networks: dict[str, nn.Module] = {}
    content: dict[str, Any] = {"optimizer": {"state": {}}, "epoch": 3, "arch": name, "fp16_scaler": {"scale": 1.0}}
    for seed, key in enumerate(("student", "teacher")):
        networks[key] = without_classifier(network(name, seed=seed))
        state = encoder(networks[key], ProjectionHead(channels[-1]), "backbone.model.")
        for layer, width in zip((2, 3, 4), channels, strict=True):
            head = SearchHead(width, SearchSettings(width=3, hidden=4, output=5))
            state |= {f"module.layer{layer}_head.{key}": value for key, value in head.state_dict().items()}
        content[key] = state
    content |= {key: {} for key in ("dino_loss_fn", "dino_loss_l2_fn", "dino_loss_l3_fn", "dino_loss_l4_fn")}
    torch.save(content, path)
    return networks


def save(path: Path, state: Tensors) -> Path:
    """Write in the format that the file's name ends in."""
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path
