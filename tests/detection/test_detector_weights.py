"""Converted weights: Detectron2's own ResNets compute what ours do, whoever loads them, and nothing is left out."""

import hashlib
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from converted_weights import converted, encoder, saved
from torch import Tensor, nn

import scfs.detection.compat  # isort: skip  # noqa: F401

from detectron2 import model_zoo
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.modeling.backbone.resnet import build_resnet_backbone

from scfs import __version__
from scfs.config.backbones import BACKBONES
from scfs.config.detection import Detection
from scfs.config.weight_formats import converted_path
from scfs.detection.backbone import build_scfs_resnet
from scfs.detection.recipes import build_config
from scfs.detection.weights import load_converted, read_converted
from scfs.errors import ScfsError
from scfs.io.safe_pickle import dump, load
from scfs.model.backbones.resnet import LAYERS, Backbone
from scfs.weights.export import export

pytestmark = pytest.mark.detectron2

C4, FPN = "voc_faster_rcnn_c4", "coco_mask_rcnn_fpn_1x"
STAGES = ("res2", "res3", "res4", "res5")
IMAGES = torch.randn(1, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def detector(recipe: str, backbone: str) -> nn.Module:
    protocol = Detection(kind="detection", dataset="some", recipe=recipe)  # type: ignore[arg-type]
    model: nn.Module = build_model(build_config(protocol, backbone, 3, "cpu"))
    return model.eval()


def our_maps(backbone: Backbone, images: Tensor) -> dict[str, Tensor]:
    stem = backbone.maxpool(backbone.bn1(backbone.conv1(images)).relu())
    maps = backbone(images)
    return {"stem": stem} | {stage: maps[layer] for stage, layer in zip(STAGES, LAYERS, strict=True)}


def their_maps(model: Any, images: Tensor) -> dict[str, Tensor]:
    """C4: res5 as its heads run it on a region, up to the norm, which is not the encoder's."""
    bottom_up = getattr(model.backbone, "bottom_up", model.backbone)
    bottom_up._out_features = ["stem", *bottom_up.stage_names]
    maps: dict[str, Tensor] = bottom_up(images)
    if "res5" not in maps:
        maps["res5"] = model.roi_heads.res5[:-1](maps["res4"])
    return maps


@pytest.mark.parametrize("recipe", [C4, FPN])
@pytest.mark.parametrize("name", [name for name in BACKBONES if getattr(BACKBONES[name], "small_stem", None) is False])
def test_layer_maps_are_ours(name: str, recipe: str, tmp_path: Path) -> None:
    ours, theirs = encoder(name, torch.float64), detector(recipe, name).double()
    load_converted(theirs, converted(ours, tmp_path))
    with torch.no_grad():
        expected, found = our_maps(ours, IMAGES), their_maps(theirs, IMAGES)
        assert found.keys() == expected.keys()
        for stage, wanted in expected.items():
            assert torch.equal(found[stage], wanted), stage
        images = IMAGES.float()
        expected, found = our_maps(ours.float(), images), their_maps(theirs.float(), images)
        for stage, wanted in expected.items():
            assert (found[stage] - wanted).abs().max() <= 1e-5 * wanted.abs().max(), stage


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101"])
def test_our_builder_builds_what_detectron2s_does(name: str) -> None:
    protocol = Detection(kind="detection", dataset="some", recipe=FPN)
    cfg = build_config(protocol, name, 3, "cpu")
    with torch.device("meta"):
        ours, theirs = (build(cfg, ShapeSpec(channels=3)) for build in (build_scfs_resnet, build_resnet_backbone))
    assert repr(ours) == repr(theirs)
    assert ours.output_shape() == theirs.output_shape()


@pytest.mark.parametrize("recipe", [C4, FPN])
def test_all_of_the_resnet_is_filled_and_nothing_else(recipe: str, tmp_path: Path) -> None:
    model = detector(recipe, "narrow_resnet18")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    load_converted(model, converted(encoder("narrow_resnet18"), tmp_path))
    after = model.state_dict()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    of_resnet = ("backbone.bottom_up.",) if recipe == FPN else ("backbone.", "roi_heads.res5.")
    expected = {name for name in after if name.startswith(of_resnet) and not name.startswith("roi_heads.res5.norm.")}
    assert changed == {name for name in expected if not name.endswith("num_batches_tracked")}
    # 20 convolutions with their norms' four vectors.
    assert len(changed) == 20 * 5


@pytest.mark.parametrize(
    "zoo", ["COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml", "PascalVOC-Detection/faster_rcnn_R_50_C4.yaml"]
)
def test_detectron2_alone_loads_the_file(zoo: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A user's path without anything of ours: MODEL.WEIGHTS in a config of the model zoo."""
    path = converted(encoder("resnet50"), tmp_path)
    cfg = model_zoo.get_config(zoo)
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = "cpu", str(path)
    model = build_model(cfg)
    with caplog.at_level("INFO"):
        rest = DetectionCheckpointer(model).load(cfg.MODEL.WEIGHTS)
    assert "not used" not in caplog.text and "not found in the model" not in caplog.text, caplog.text
    assert rest["scfs"]["run"] == "some-run"
    tensors, _ = read_converted(path)
    state = model.state_dict()
    for name, tensor in tensors.items():
        places = [place for place in state if place.endswith(f".{name}") and "proposal" not in place]
        assert len(places) == 1 and torch.equal(state[places[0]], tensor), name
    fresh = build_model(cfg)
    load_converted(fresh, path)
    backbones = ("backbone.bottom_up.", "backbone.stem.", "backbone.res", "roi_heads.res5.")
    assert all(torch.equal(state[n], value) for n, value in fresh.state_dict().items() if n.startswith(backbones))


def test_the_file_is_what_detectron2s_users_know_and_says_where_it_comes_from(tmp_path: Path) -> None:
    backbone = encoder("narrow_resnet18")
    path = converted(backbone, tmp_path)
    content = pickle.loads(path.read_bytes())
    assert list(content) == ["__author__", "matching_heuristics", "model", "scfs"]
    assert content["matching_heuristics"] is True
    model = content["model"]
    some = ["stem.conv1.weight", "stem.conv1.norm.running_var", "res2.1.conv2.weight", "res3.0.shortcut.weight"]
    some += ["res4.0.shortcut.norm.bias", "res5.1.conv1.norm.running_mean"]
    assert set(some) <= model.keys() and "res2.0.shortcut.weight" not in model
    assert not any(part in name for name in model for part in ("fc", "classifier", "num_batches_tracked"))
    assert len(model) == 20 * 5 and {str(array.dtype) for array in model.values()} == {"float32"}
    assert content["scfs"] == {
        "run": "some-run",
        "identity": "0123",
        "encoder": "teacher",
        "library": "detectron2",
        "architecture": "narrow_resnet18",
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "scfs": __version__,
        "weights_sha256": hashlib.sha256((tmp_path / "narrow_resnet18.safetensors").read_bytes()).hexdigest(),
    }
    about = load_converted(detector(FPN, "narrow_resnet18"), path)
    assert vars(about) == {key: content["scfs"][key] for key in vars(about)}
    assert converted_path("some-run", "detectron2") == Path("weights/some-run/detectron2.pkl")


def test_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    path = converted(encoder("narrow_resnet18"), tmp_path)
    code = "import sys; from pathlib import Path; from scfs.weights.export import export\n"
    code += "export(Path(sys.argv[1]), 'detectron2', 'teacher', Path(sys.argv[2]))"
    again = tmp_path / "again.pkl"
    source = str(path.with_suffix(".safetensors"))
    subprocess.run([sys.executable, "-c", code, source, str(again)], check=True)
    assert path.read_bytes() == again.read_bytes()


def test_without_detectron2_the_file_is_written_all_the_same(tmp_path: Path) -> None:
    source = saved(encoder("narrow_resnet18"), tmp_path)
    code = "import sys; sys.modules['detectron2'] = None\nfrom pathlib import Path\n"
    code += (
        "from scfs.weights.export import export\nexport(Path(sys.argv[1]), 'detectron2', 'teacher', Path('out.pkl'))"
    )
    subprocess.run([sys.executable, "-c", code, str(source)], check=True, cwd=tmp_path)
    assert (tmp_path / "out.pkl").is_file()


Change = Callable[[dict[str, Any]], object]


def shorten(content: dict[str, Any]) -> None:
    content["model"]["stem.conv1.weight"] = content["model"]["stem.conv1.weight"][:, :2].copy()


@pytest.mark.parametrize("recipe", [C4, FPN])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["model"].pop("res5.1.conv2.weight"), r"1 key \('res5\.1\.conv2\.weight'\) missing"),
        (
            lambda c: c["model"].pop("stem.conv1.norm.running_var"),
            r"1 key \('stem\.conv1\.norm\.running_var'\) missing",
        ),
        (lambda c: c["model"].update({"fc.bias": c["model"]["stem.conv1.norm.bias"]}), r"1 key \('fc\.bias'\) unknown"),
        (lambda c: c["model"].update({"res2.0.conv1.weight": "none"}), "'res2.0.conv1.weight' is a str, not a dense"),
        (shorten, r"'stem\.conv1\.weight' has shape \(32, 2, 7, 7\), allowed is \(32, 3, 7, 7\)"),
    ],
)
def test_every_tensor_has_its_place_and_every_place_its_tensor(
    recipe: str, change: Change, message: str, tmp_path: Path
) -> None:
    path = converted(encoder("narrow_resnet18"), tmp_path)
    content = load(path)
    change(content)
    path.write_bytes(dump(content))
    model = detector(recipe, "narrow_resnet18")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ScfsError, match=f"narrow_resnet18.pkl: narrow_resnet18 does not fit the detector: {message}"):
        load_converted(model, path)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet34", r"resnet34 does not fit the detector: 80 keys \(.*\) unknown"),
        ("narrow_resnet18", "narrow_resnet18 does not fit the detector: 'stem.conv1.weight' has shape"),
    ],
)
def test_another_depth_or_width_is_refused(name: str, message: str, tmp_path: Path) -> None:
    path = converted(encoder(name), tmp_path)
    with pytest.raises(ScfsError, match=message):
        load_converted(detector(FPN, "resnet18"), path)


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        {"model": {}, "__author__": "MOCO", "matching_heuristics": True},
        {"model": [], "scfs": {}},
        {"model": {}, "scfs": {"run": "some-run", "identity": 3}},
    ],
)
def test_other_files_are_refused(content: Any, tmp_path: Path) -> None:
    path = tmp_path / "other.pkl"
    path.write_bytes(dump(content))
    with pytest.raises(ScfsError, match=r"other\.pkl: not written by scfs convert --to detectron2$"):
        read_converted(path)


def test_a_vit_cannot_be_converted(tmp_path: Path) -> None:
    from scfs.config.pretrain import Pretrain
    from scfs.model.backbones.registry import build_backbone
    from scfs.weights.store import Weights, save_weights

    settings = Pretrain(dataset="none", backbone="narrow_vit_8").model_dump(mode="json")
    state = build_backbone("narrow_vit_8").state_dict()
    source, out = tmp_path / "vit.safetensors", tmp_path / "vit.pkl"
    save_weights(
        source, {f"teacher.backbone.{k}": v for k, v in state.items()}, Weights("v", "0", settings, "d", "fp32")
    )
    with pytest.raises(ScfsError, match="narrow_vit_8 cannot be written as 'detectron2'"):
        export(source, "detectron2", "teacher", out)
    assert not out.exists()
