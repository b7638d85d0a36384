"""Evaluations of a ViT: its [CLS] where the image's feature is asked for, its patch maps where layers are."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from test_evaluate import PROTOCOLS, VALUES
from timm.models.vision_transformer import VisionTransformer

from scfs import paths
from scfs.config.evaluation import Knn
from scfs.config.protocol import Evaluation
from scfs.data.decoding import decode
from scfs.data.opening import open_split
from scfs.errors import ScfsError
from scfs.evaluation.features import FEATURE, FrozenEncoder, clean_view, extract
from scfs.evaluation.run import evaluate
from scfs.model.backbones.resnet import pooled
from scfs.model.backbones.vit import ViT
from scfs.views.images import normalize, resize_crop
from scfs.weights.store import Weights, save_weights

SHOW = clean_view(Knn(kind="knn", dataset="colours", resize=36, crop=32))


@pytest.fixture(scope="module")
def vit() -> ViT:
    torch.manual_seed(5)
    return ViT("narrow_vit_8").eval().requires_grad_(False)


@pytest.fixture
def weights(vit: ViT, tmp_path: Path) -> Path:
    path = tmp_path / "weights" / "vit.safetensors"
    path.parent.mkdir()
    tensors = {f"teacher.backbone.{name}": value for name, value in vit.state_dict().items()}
    tensors |= {"teacher.classifier.weight": torch.randn(3, 128), "teacher.classifier.bias": torch.randn(3)}
    classes = ["blue", "green", "red"]
    save_weights(path, tensors, Weights("vit", "0", {"backbone": "narrow_vit_8"}, "none", "fp32", classes))
    return path


def run(kind: str, weights: Path, out: Path, **changes: Any) -> dict[str, Any]:
    protocol = TypeAdapter(Evaluation).validate_python({"kind": kind, **PROTOCOLS[kind], **changes})
    evaluate(protocol, weights, "vit", out, threads=1, device="cpu")
    values: dict[str, Any] = json.loads(out.read_text())["values"]
    return values


@pytest.mark.parametrize("cls_blocks", [1, 4])
def test_the_feature_is_the_cls_of_the_last_blocks(vit: ViT, workplace: Path, cls_blocks: int) -> None:
    images = open_split(paths.manifest("colours"), "val")
    encoder = FrozenEncoder(vit, torch.device("cpu")).joining(cls_blocks)
    found = extract(encoder, images, [FEATURE, "layer3"], SHOW)
    theirs = VisionTransformer(64, 8, embed_dim=128, depth=6, num_heads=4, num_classes=0, dynamic_img_size=True).eval()
    theirs.load_state_dict(vit.state_dict())
    for row in range(len(images)):
        view = normalize(torch.from_numpy(resize_crop(decode(images.read(row), "image"), 36, 32))[None])
        with torch.no_grad():
            last = theirs.get_intermediate_layers(view, cls_blocks, return_prefix_tokens=True, norm=True)
            (layer3,) = theirs.get_intermediate_layers(view, [3], reshape=True)
        expected = torch.cat([prefix[0, 0] for _, prefix in last])
        torch.testing.assert_close(found[FEATURE][row], expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found["layer3"][row], pooled(layer3)[0], rtol=1e-4, atol=1e-4)
    assert found[FEATURE].shape == (len(images), 128 * cls_blocks)


@pytest.mark.parametrize("kind", ["knn", "layers", "linear", "linear_cached", "attention"])
def test_every_kind_measures_a_vit(kind: str, workplace: Path, weights: Path, tmp_path: Path) -> None:
    values = run(kind, weights, tmp_path / "out.json")
    assert set(values) == VALUES[kind]
    if kind == "knn":
        assert values["top1"] >= 90


@pytest.mark.parametrize("kind", ["linear", "linear_cached"])
def test_linear_probing_sees_more_blocks(kind: str, workplace: Path, weights: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    from scfs.evaluation.probe import Classifiers

    with pytest.MonkeyPatch.context() as patch:
        init = Classifiers.__init__
        patch.setattr(
            Classifiers, "__init__", lambda self, width, *rest: (seen.append(width), init(self, width, *rest))[1]
        )
        for cls_blocks in (1, 4):
            assert run(kind, weights, tmp_path / "out.json", cls_blocks=cls_blocks, epochs=20)["top1"] >= 90
    assert seen == [128, 512]


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("layers", {"layers": ["layer1"]}, "layers: 'layer1': not among ['layer2', 'layer3', 'layer4']"),
        ("linear_cached", {"cls_blocks": 7}, "cls_blocks = 7: it has only 6 blocks"),
        ("knn", {"crop": 36}, "images of 36 x 36 pixels: allowed: multiples of 8"),
        ("attention", {"local_crop": 20}, "images of 20 x 20 pixels: allowed: multiples of 8"),
        ("class_probabilities", {}, "backbone narrow_vit_8 classifies [CLS], and a search gives a map"),
    ],
)
def test_what_a_vit_cannot_is_one_line(
    kind: str, changes: dict[str, Any], message: str, workplace: Path, weights: Path, tmp_path: Path
) -> None:
    with pytest.raises(ScfsError) as caught:
        run(kind, weights, tmp_path / "out.json", **changes)
    assert message in str(caught.value) and "\n" not in str(caught.value)
