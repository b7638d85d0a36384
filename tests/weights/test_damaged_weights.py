"""Weights that are not finite, mutilated, or no dense numbers: refused in one line, wherever they are read."""

from pathlib import Path
from typing import Any

import pytest
import torch
from layouts import network, save

from scfs.config.pretrain import Imported
from scfs.errors import ScfsError
from scfs.weights import import_weights
from scfs.weights.export import export
from scfs.weights.store import load_backbone, load_classifier, load_weights, save_weights

pytestmark = pytest.mark.usefixtures("narrow")
CONV = "layer1.0.conv1.weight"


def imported(path: Path, out: Path, **more: Any) -> None:
    settings = Imported(weights=str(path), format="torchvision", backbone="resnet18", **more)
    import_weights.import_weights(path, "torchvision", out, "theirs", settings)


@pytest.fixture
def state() -> dict[str, Any]:
    return {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in network("resnet18").state_dict().items()
    }


def with_number(tensor: torch.Tensor, number: float) -> torch.Tensor:
    changed = tensor.clone()
    changed.view(-1)[-1] = number
    return changed


UNFIT = [
    (CONV, lambda t: with_number(t, float("nan")), "'layer1.0.conv1.weight' has numbers that are not finite"),
    ("bn1.running_var", lambda t: with_number(t, float("inf")), "'bn1.running_var' has numbers that are not finite"),
    ("fc.bias", lambda t: with_number(t, float("-inf")), "'fc.bias' has numbers that are not finite"),
    (CONV, lambda t: with_number(t.double(), 1e300), "has numbers that are not finite in float32"),
    (CONV, lambda t: t.flatten(1).to_sparse(), "is a tensor of the layout torch.sparse_coo"),
    (CONV, lambda t: t.flatten(1).to_sparse_csr(), "is a tensor of the layout torch.sparse_csr"),
    (CONV, lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), "is a quantised tensor"),
    (CONV, lambda t: t.to("meta"), "is a meta tensor"),
    (CONV, lambda t: t.to(torch.complex64), "is a tensor of torch.complex64"),
    (CONV, lambda t: t.to(torch.int8), "is a tensor of torch.int8"),
    (CONV, lambda t: t > 0, "is a tensor of torch.bool"),
    ("fc.weight", lambda t: t.to_sparse(), "is a tensor of the layout"),
    ("fc.weight", lambda t: t[:, :-1], "its classifier does not fit: 'fc.weight' has shape (1000, 63), allowed is"),
    ("fc.bias", lambda t: t[:-1], "its classifier does not fit: 'fc.bias' has shape (999,), allowed is (1000,)"),
    (CONV, lambda t: torch.nested.nested_tensor([t[0], t[1]]), "is a nested tensor"),
    (CONV, lambda t: t[:1].expand(10**9, *t.shape[1:]), "has shape (1000000000, "),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "change", "said"), UNFIT)
def test_imports_refuse(name: str, change: Any, said: str, state: dict[str, Any], tmp_path: Path) -> None:
    state[name] = change(state[name])
    save(tmp_path / "w.pth", state)
    with pytest.raises(ScfsError) as error:
        imported(tmp_path / "w.pth", tmp_path / "out.safetensors")
    assert said in str(error.value) and str(error.value).startswith(str(tmp_path / "w.pth"))
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_taken_as_they_are(dtype: torch.dtype, state: dict[str, Any], tmp_path: Path) -> None:
    save(tmp_path / "w.pth", {**state, CONV: state[CONV].to(dtype)})
    imported(tmp_path / "w.pth", tmp_path / "out.safetensors")
    assert load_weights(tmp_path / "out.safetensors", "")[0][f"teacher.backbone.{CONV}"].dtype == dtype


OURS = [
    (f"backbone.{CONV}", lambda t: with_number(t, float("nan")), f"'{CONV}' has numbers that are not finite"),
    ("backbone.bn1.running_var", lambda t: with_number(t, float("inf")), "has numbers that are not finite"),
    (f"backbone.{CONV}", None, f"does not fit resnet18: 1 key ('{CONV}') missing"),
    (f"backbone.{CONV}", lambda t: t[:-1], f"'{CONV}' has shape (7, 8, 3, 3), allowed is (8, 8, 3, 3)"),
    ("backbone.more", lambda t: torch.zeros(2), "does not fit resnet18: 1 key ('more') unknown"),
    ("classifier.bias", None, "its classifier does not fit: 1 key ('classifier.bias') missing"),
    ("classifier.weight", None, "its classifier does not fit: 1 key ('classifier.weight') missing"),
    ("classifier.weight", lambda t: t[:, :-1], "its classifier does not fit: 'classifier.weight' has shape"),
    ("classifier.weight", lambda t: t[0], "its classifier does not fit: 'classifier.weight' has shape (64,)"),
    (
        "classifier.weight",
        lambda t: with_number(t, float("nan")),
        "'classifier.weight' has numbers that are not finite",
    ),
]


@pytest.mark.parametrize(("name", "change", "said"), OURS)
def test_exports_conversions_and_evaluations_refuse(
    name: str, change: Any, said: str, state: dict[str, Any], tmp_path: Path
) -> None:
    ours = tmp_path / "ours.safetensors"
    save(tmp_path / "w.pth", state)
    imported(tmp_path / "w.pth", ours)
    tensors, about = load_weights(ours, "")
    before = tensors.pop(f"teacher.{name}", torch.zeros(0))
    save_weights(ours, {**tensors, **({f"teacher.{name}": change(before)} if change else {})}, about)
    readers = [load_classifier if name.startswith("classifier") else load_backbone]
    readers += [
        lambda path, to=to: export(path, to, "teacher", tmp_path / "out") for to in ("torchvision", "pth", "timm")
    ]
    for read in readers:
        with pytest.raises(ScfsError) as error:
            read(ours)
        assert said in str(error.value) and str(error.value).startswith(str(ours))
    if not name.startswith("classifier"):
        with pytest.raises(ScfsError, match=r"not finite|does not fit"):
            export(ours, "detectron2", "teacher", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_classifier_of_other_classes_is_not_exported(state: dict[str, Any], tmp_path: Path) -> None:
    ours = tmp_path / "ours.safetensors"
    save(tmp_path / "w.pth", state)
    imported(tmp_path / "w.pth", ours)
    content, about = load_weights(ours, "")
    save_weights(ours, content, type(about)(**{**vars(about), "classes": ["a", "b"]}))
    with pytest.raises(ScfsError, match=r"ours.safetensors: teacher.classifier does not fit its 2 classes"):
        export(ours, "timm", "teacher", tmp_path / "out")
