"""Weights of encoders with random statistics, converted for Detectron2."""

from pathlib import Path

import torch
from torch import nn

from scfs.config.pretrain import Pretrain
from scfs.model.backbones.resnet import Backbone
from scfs.weights.export import export
from scfs.weights.store import Weights, save_weights


def encoder(name: str, dtype: torch.dtype = torch.float32) -> Backbone:
    """A backbone whose BatchNorm is far from its initial state."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = Backbone(name).to(dtype).eval()
        for module in backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean, std=0.1)  # type: ignore[arg-type]
                nn.init.uniform_(module.running_var, 0.5, 2)  # type: ignore[arg-type]
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.1)
                module.num_batches_tracked.fill_(7)  # type: ignore[union-attr]
    return backbone


def saved(backbone: Backbone, folder: Path) -> Path:
    """The file of a run with this teacher, and a classifier that Detectron2 has no place for."""
    tensors = {f"teacher.backbone.{key}": value for key, value in backbone.state_dict().items()}
    tensors |= {"teacher.classifier.weight": torch.zeros(3, 5), "teacher.classifier.bias": torch.zeros(3)}
    settings = Pretrain(dataset="none", backbone=backbone.name).model_dump(mode="json")  # type: ignore[arg-type]
    path = folder / f"{backbone.name}.safetensors"
    save_weights(path, tensors, Weights("some-run", "0123", settings, "digest", "fp32"))
    return path


def converted(backbone: Backbone, folder: Path) -> Path:
    """The same for Detectron2."""
    path = folder / f"{backbone.name}.pkl"
    export(saved(backbone, folder), "detectron2", "teacher", path)
    return path
