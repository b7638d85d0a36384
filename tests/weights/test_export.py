"""Exports load in the other library with its own strictness, compute the same, and come back unchanged."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from layouts import network, official, save, without_classifier
from safetensors import safe_open
from safetensors.torch import load_file

from scfs import __version__
from scfs.config.pretrain import Imported, Pretrain
from scfs.config.weight_formats import FORMATS, export_formats
from scfs.errors import ScfsError
from scfs.model.backbones.resnet import Backbone
from scfs.weights import import_weights
from scfs.weights.export import export
from scfs.weights.store import Weights, load_weights, save_weights

IMAGES = torch.randn(2, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

pytestmark = pytest.mark.usefixtures("narrow")


def imported(path: Path, format: str, backbone: str, out: Path) -> None:
    settings = Imported(weights=str(path), format=format, backbone=backbone)  # type: ignore[arg-type]
    import_weights.import_weights(path, format, out, "theirs", settings)


@pytest.mark.parametrize(
    ("name", "format"),
    [("resnet18", "timm"), ("resnet34", "torchvision"), ("resnet50", "timm"), ("resnet101", "torchvision")],
)
def test_both_ways_give_equal_tensors_and_features(name: str, format: str, tmp_path: Path) -> None:
    theirs = network(name, format)
    ours, out = tmp_path / "ours.safetensors", tmp_path / "out.safetensors"
    imported(save(tmp_path / "w.pth", theirs.state_dict()), format, name, ours)
    export(ours, format, "teacher", out)
    back = load_file(out)
    state = theirs.state_dict()
    assert back.keys() == state.keys() and all(torch.equal(back[key], state[key]) for key in state)
    fresh = network(name, format, seed=9)
    fresh.load_state_dict(back, strict=True)
    with torch.no_grad():
        assert torch.equal(fresh(IMAGES), theirs(IMAGES))
    again = tmp_path / "again.safetensors"
    imported(out, format, name, again)
    first, second = load_weights(ours, "")[0], load_weights(again, "")[0]
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("format", ["torchvision", "timm", "safetensors", "pth"])
def test_one_encoder_without_a_classifier(format: str, tmp_path: Path) -> None:
    networks = official(tmp_path / "ckpt.pth")
    ours = tmp_path / "ours.safetensors"
    imported(tmp_path / "ckpt.pth", "official", "resnet18", ours)
    for which, theirs in networks.items():
        out = tmp_path / f"{which}.{'pth' if format == 'pth' else 'safetensors'}"
        export(ours, format, which, out)
        state = torch.load(out, weights_only=True) if format == "pth" else load_file(out)
        fresh = without_classifier(network("resnet18", "timm" if format == "timm" else "torchvision", seed=9))
        fresh.load_state_dict(state, strict=True)
        with torch.no_grad():
            assert torch.equal(fresh(IMAGES), theirs(IMAGES)), which
        before = out.read_bytes()
        export(ours, format, which, tmp_path / f"other-{out.name}")
        assert (tmp_path / f"other-{out.name}").read_bytes() == before


def test_files_say_where_they_come_from_and_are_the_same_in_another_process(tmp_path: Path) -> None:
    ours = tmp_path / "ours.safetensors"
    imported(save(tmp_path / "w.pth", network("resnet18").state_dict()), "torchvision", "resnet18", ours)
    out, again = tmp_path / "out.safetensors", tmp_path / "again.safetensors"
    export(ours, "timm", "teacher", out)
    with safe_open(out, framework="pt") as file:
        facts = json.loads(file.metadata()["scfs_export"])
    assert facts == {
        "run": "theirs",
        "identity": load_weights(ours, "")[1].identity,
        "encoder": "teacher",
        "library": "timm",
        "architecture": "resnet18",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "scfs": __version__,
    }
    code = "import sys, pytest; from pathlib import Path; from scfs.weights.export import export\n"
    code += f"sys.path.append({str(Path(__file__).parent)!r}); from layouts import narrow_backbones\n"
    code += "narrow_backbones(pytest.MonkeyPatch()); export(Path(sys.argv[1]), 'timm', 'teacher', Path(sys.argv[2]))"
    subprocess.run([sys.executable, "-c", code, str(ours), str(again)], check=True)
    assert out.read_bytes() == again.read_bytes()


def test_what_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    ours, out = tmp_path / "ours.safetensors", tmp_path / "out.safetensors"
    settings = Pretrain(dataset="none", backbone="narrow_resnet18").model_dump(mode="json")
    tensors = {f"teacher.backbone.{key}": value for key, value in Backbone("narrow_resnet18").state_dict().items()}
    save_weights(ours, tensors, Weights("run", "0123", settings, "digest", "fp32"))
    message = r"narrow_resnet18 cannot be written as 'timm': allowed are \['detectron2', 'safetensors', 'pth'\]"
    with pytest.raises(ScfsError, match=message):
        export(ours, "timm", "teacher", out)
    assert export_formats("narrow_resnet18") == ["detectron2", "safetensors", "pth"]
    assert export_formats("resnet50") == ["torchvision", "timm", "detectron2", "safetensors", "pth"]
    assert export_formats("narrow_vit_8") == ["safetensors", "pth"]
    assert export_formats("vit_small_16") == ["timm", "safetensors", "pth"]
    with pytest.raises(ScfsError, match=r"holds no tensors named student\.backbone\.\*"):
        export(ours, "safetensors", "student", out)
    assert not out.exists()


def test_torchvisions_vit_computes_what_timms_does() -> None:
    """The names alone, on two narrow blocks: the order of query, key and value, of norms, of the class token."""
    options = {"num_heads": 12, "image_size": 224, "patch_size": 16, "hidden_dim": 96, "mlp_dim": 384}
    source = timm.create_model("vit_base_patch16_224", embed_dim=96, depth=2, num_classes=0).double().eval()
    torch.nn.init.normal_(source.cls_token)
    for block in source.blocks:
        torch.nn.init.normal_(block.attn.qkv.bias)
    target = torchvision.models.VisionTransformer(num_layers=2, **options).double().eval()  # type: ignore[arg-type]
    target.heads = torch.nn.Identity()  # type: ignore[assignment]
    names = FORMATS["torchvision"].name_map("vit_base_16")
    assert names is not None
    target.load_state_dict({names(key): value for key, value in source.state_dict().items()}, strict=True)
    images = torch.randn(1, 3, 224, 224, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(target(images), source(images), rtol=1e-12, atol=1e-12)
