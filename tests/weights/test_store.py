"""Weights on disk: same bytes for same tensors, loaded strictly, refused in one line."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from scfs.config.pretrain import Pretrain
from scfs.errors import ScfsError
from scfs.model.backbones.resnet import Backbone
from scfs.weights.store import Weights, load_backbone, load_weights, save_weights


def about(backbone: str = "narrow_resnet18") -> Weights:
    settings = Pretrain(dataset="none", backbone=backbone).model_dump(mode="json")  # type: ignore[arg-type]
    return Weights("run", "0123", settings, "digest", "fp32")


def tensors(backbone: Backbone, prefix: str = "teacher.backbone.") -> dict[str, Any]:
    return {prefix + name: value for name, value in backbone.state_dict().items()}


def test_round_trip_gives_equal_maps_and_equal_bytes(tmp_path: Path) -> None:
    backbone = Backbone("narrow_resnet18").eval()
    path = tmp_path / "w.safetensors"
    save_weights(path, tensors(backbone), about())
    loaded, weights = load_backbone(path)
    images = torch.randn(2, 3, 64, 64)
    for layer, feature_map in backbone(images).items():
        assert torch.allclose(loaded(images)[layer], feature_map, rtol=1e-4, atol=1e-5), layer
    assert weights == about() and not loaded.training
    # Another memory format and another order of keys: the same file.
    again = tensors(backbone.to(memory_format=torch.channels_last))
    save_weights(tmp_path / "again.safetensors", dict(reversed(again.items())), about())
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_other_architecture_and_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(path, tensors(Backbone("narrow_resnet18")), about("resnet50"))
    with pytest.raises(ScfsError, match=r"w\.safetensors: does not fit resnet50: "):
        load_backbone(path)
    with pytest.raises(ScfsError, match=r"holds no tensors named student\.backbone\.\*"):
        load_backbone(path, "student")
    with pytest.raises(ScfsError, match=r"none\.safetensors: no such weights file"):
        load_weights(tmp_path / "none.safetensors", "")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ScfsError, match=r"w\.safetensors: not a readable safetensors file"):
        load_weights(path, "")
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ScfsError, match="not written by scfs"):
        load_weights(path, "")
    unknown = vars(about()) | {"settings": {"backbone": "vgg"}}
    save_file({"teacher.backbone.a": torch.zeros(1)}, path, {"scfs": json.dumps(unknown)})
    with pytest.raises(ScfsError, match="backbone 'vgg': not among"):
        load_backbone(path)
