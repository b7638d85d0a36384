"""`scfs.load`: the network of a training in Python, equal to what the evaluations compute."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

import scfs
from scfs.config.base import parse
from scfs.config.pretrain import Pretrain
from scfs.errors import ScfsError
from scfs.evaluation.features import FEATURE, FrozenEncoder
from scfs.model.backbones.registry import build_backbone
from scfs.model.methods import build_method
from scfs.model.search import attention_map
from scfs.views.images import IMAGENET_MEAN, IMAGENET_STD, resize_crop
from scfs.weights.export import export
from scfs.weights.store import Weights, load_backbone, save_weights

SIDE = 48


def make_weights(path: Path, backbone: str = "narrow_resnet18") -> Path:
    values = {"dataset": "x", "method": "dino", "backbone": backbone, "views": {"global_size": SIDE, "local_size": 32}}
    settings = parse(Pretrain, values | {"head": {"prototypes": 8, "hidden": 8, "bottleneck": 8}}, "pretrain")
    torch.manual_seed(0)
    method = build_method(settings, 0)
    with torch.no_grad():
        for parameter in method.student.parameters():
            parameter.add_(0.01)
    tensors = {
        f"{name}.{key}": value
        for name, encoder in (("student", method.student), ("teacher", method.teacher))
        for key, value in encoder.state_dict().items()
    }
    save_weights(path, tensors, Weights("mine", "0" * 64, settings.model_dump(mode="json"), "0" * 64, "fp32"))
    return path


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return make_weights(tmp_path / "weights.of.mine")  # whatever its ending


@pytest.fixture
def photo() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 90, 3), np.uint8))


def test_it_computes_what_the_evaluations_compute(weights: Path, photo: Image.Image) -> None:
    for encoder in ("teacher", "student"):
        model = scfs.load(weights, encoder=encoder)
        frozen = FrozenEncoder(load_backbone(weights, encoder)[0], torch.device("cpu"))
        pixels = torch.from_numpy(resize_crop(np.asarray(photo), SIDE, SIDE))[None]
        images = model.transform(photo)[None]
        assert images.shape == (1, 3, SIDE, SIDE)
        assert torch.equal(model(images), frozen.features(pixels, [FEATURE])[FEATURE])
        maps = frozen.maps(pixels)
        assert model.layers(images).keys() == maps.keys()
        assert all(torch.equal(model.layers(images)[layer], maps[layer]) for layer in maps)
    assert "mine" in model.source


def test_its_transform_is_torchvisions_but_for_rounding(weights: Path, photo: Image.Image, tmp_path: Path) -> None:
    theirs = transforms.Compose(
        [
            transforms.Resize(SIDE, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(SIDE),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )(photo)
    model = scfs.load(weights)
    torch.testing.assert_close(model.transform(photo), theirs, rtol=0, atol=2.1 / 255 / min(IMAGENET_STD))
    photo.save(tmp_path / "photo.png")
    assert torch.equal(model.transform(tmp_path / "photo.png"), model.transform(np.asarray(photo)))


def test_attention_is_eq_6(weights: Path, photo: Image.Image) -> None:
    model = scfs.load(weights)
    images = torch.stack([model.transform(photo), model.transform(photo.rotate(180))])
    crop = model.transform(photo.crop((0, 0, 30, 30)))[None]
    for layer in ("layer3", "layer4"):
        queries = model.layers(crop)[layer].mean((2, 3)).expand(2, -1)[:, None]
        expected = attention_map(queries, model.layers(images)[layer])[:, 0]
        torch.testing.assert_close(model.attention(crop, images, layer), expected)
    with pytest.raises(ScfsError, match=r"layer = 'layer9': not among \['layer1'"):
        model.attention(crop, images, "layer9")


def test_others_weights(weights: Path, tmp_path: Path, photo: Image.Image) -> None:
    theirs = tmp_path / "theirs.safetensors"
    export(make_weights(tmp_path / "r18", "resnet18"), "torchvision", "teacher", theirs)
    model = scfs.load(theirs, backbone="resnet18")
    assert model.size == 224 and model.source == "theirs.safetensors"
    ours = scfs.load(tmp_path / "r18")
    images = ours.transform(photo)[None]
    assert torch.equal(model(images), ours(images))
    with pytest.raises(ScfsError, match=r"not written by scfs: give its architecture"):
        scfs.load(theirs)
    with pytest.raises(ScfsError, match=r"no weights 'nobody': not among"):
        scfs.load("nobody")
    with pytest.raises(ScfsError, match=r"allowed are images of \(H, W, 3\) uint8"):
        model.transform(np.zeros((4, 4), np.uint8))


def test_by_torch_hub(weights: Path, photo: Image.Image) -> None:
    model = torch.hub.load(str(Path(__file__).parents[2]), "encoder", weights=weights, source="local")
    assert torch.equal(model(model.transform(photo)[None]), scfs.load(weights)(model.transform(photo)[None]))


def test_a_vit_too(tmp_path: Path, photo: Image.Image) -> None:
    model = scfs.load(make_weights(tmp_path / "vit", "narrow_vit_8"))
    images = model.transform(photo)[None]
    assert model(images).shape == (1, build_backbone("narrow_vit_8").channels["layer4"])
    assert set(model.layers(images)) == {"layer2", "layer3", "layer4"}
    assert model.attention(images, images).shape == (1, 6, 6)


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import scfs, sys; print([m for m in ('torch', 'numpy', 'pyarrow', 'typer', 'pydantic') if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "[]\n"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        scfs.nothing  # noqa: B018
    assert {"load", "embed", "evaluate", "Encoder"} <= set(scfs.__all__)
