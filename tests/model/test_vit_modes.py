"""Every mode on a ViT: [CLS] and patch maps as timm computes them, losses as the nested loops do, in float64."""

from collections.abc import Callable
from dataclasses import replace

import loss_oracle as oracle
import numpy as np
import pytest
import torch
from test_modes import random_crop_boxes
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from scfs.config.backbones import BACKBONES, ViTSpec
from scfs.config.pretrain import Pretrain
from scfs.model.heads import SearchHead
from scfs.model.methods import SCFS, Crops, build_method
from scfs.model.roi_crop import local_boxes

B, CROPS, SIZE = 3, 2, 64
TAU, TAU_PRIME = 0.1, 0.05
BLOCKS = {"layer2": 2, "layer3": 3}
"""Blocks, from 0, that the inner layers come after: half and three quarters of six, rounded down."""


def built(method: str, preset: str) -> SCFS:
    settings = {
        "dataset": "none",
        "method": method,
        "preset": preset,
        "backbone": "narrow_vit_8",
        # Local crops of the same side: timm interpolates positions in float32.
        "views": {"global_size": SIZE, "local_size": SIZE, "local_number": CROPS},
        "head": {"hidden": 8, "bottleneck": 4, "prototypes": 7},
        "search_head": {"width": 4, "hidden": 6, "output": 5},
        "loss": {"student_temperature": TAU},
    }
    model = build_method(Pretrain.model_validate(settings)).double()
    for parameter in model.teacher.parameters():
        if parameter.ndim > 1:
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model


@torch.no_grad()
def timm_maps(vit: torch.nn.Module, crops: Tensor) -> tuple[Tensor, dict[str, np.ndarray]]:
    """[CLS] and the maps of all three layers."""
    with torch.device("meta"):
        theirs = VisionTransformer(SIZE, 8, embed_dim=32, depth=6, num_heads=4, num_classes=0)
    theirs.load_state_dict(vit.state_dict(), assign=True)
    features = theirs.forward_features(crops)
    maps = {layer: theirs.get_intermediate_layers(crops, [n], reshape=True)[0].numpy() for layer, n in BLOCKS.items()}
    maps["layer4"] = features[:, 1:].transpose(1, 2).unflatten(2, (8, 8)).numpy()
    return features[:, 0], maps


def on_arrays(head: SearchHead) -> Callable[[np.ndarray], np.ndarray]:
    return lambda maps: plain(head(torch.from_numpy(np.asarray(maps))))


def plain(tensor: Tensor) -> np.ndarray:
    return tensor.detach().numpy()


@pytest.mark.parametrize("method", ["dino", "dino_ml", "scfs", "roi_crop"])
@pytest.mark.parametrize("preset", ["official", "paper"])
def test_losses_equal_the_nested_loops(method: str, preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = BACKBONES["narrow_vit_8"]
    assert isinstance(spec, ViTSpec)
    monkeypatch.setitem(BACKBONES._things, "narrow_vit_8", replace(spec, channels=32))
    torch.manual_seed(0)
    model = built(method, preset)
    global_crops, local_crops = (torch.randn(n * B, 3, SIZE, SIZE, dtype=torch.float64) for n in (2, CROPS))
    crop_boxes = random_crop_boxes(CROPS)
    terms = model(Crops(global_crops, local_crops, crop_boxes), TAU_PRIME)
    ours = {name: term.item() for name, term in terms.items()}

    cls, of_global = timm_maps(model.student.backbone, global_crops)
    local_cls, of_local = timm_maps(model.student.backbone, local_crops)
    teacher_cls, of_teacher = timm_maps(model.teacher.backbone, global_crops)
    logits, teacher_logits = model.student.head(torch.cat([cls, local_cls])), model.teacher.head(teacher_cls)
    center = np.zeros(7)
    data = oracle.data_loss(plain(logits), plain(teacher_logits), center, TAU, TAU_PRIME, B, CROPS, preset)
    assert ours["loss_data"] == pytest.approx(data, rel=1e-9)
    layer_terms = []
    for layer in model.layers:
        boxes = overlap = None
        if method == "roi_crop":
            found, overlaps = local_boxes(crop_boxes, model.preset.searched_views, SIZE)
            boxes, overlap = plain(found.double().transpose(0, 1)), plain(overlaps.transpose(0, 1))
        arguments = (
            method, preset, on_arrays(model.student.layer_head(layer)), on_arrays(model.teacher.layer_head(layer)),
            of_global[layer], of_local[layer], of_teacher[layer], np.zeros(5), TAU, TAU_PRIME, B, CROPS,
        )  # fmt: skip
        layer_terms.append(oracle.layer_terms(*arguments, boxes=boxes, overlap=overlap, spatial_scale=1 / 8))
        assert ours[f"loss_{layer}_global"] == pytest.approx(layer_terms[-1][0], rel=1e-9), layer
        assert ours[f"loss_{layer}_search"] == pytest.approx(layer_terms[-1][1], rel=1e-9, abs=1e-12), layer
    assert ours["loss"] == pytest.approx(oracle.total(method, preset, data, layer_terms), rel=1e-9)
    assert len(model.layers) == (0 if method == "dino" else 3)
