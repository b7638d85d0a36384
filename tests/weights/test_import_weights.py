"""Weights of others: equal features for every format, and every fault of a file is one line that writes nothing."""

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from layouts import ProjectionHead, dino, encoder, network, official, save, without_classifier
from torch import Tensor, nn

from scfs.config.base import parse
from scfs.config.pretrain import Imported
from scfs.errors import ScfsError
from scfs.io.results import sha256_of
from scfs.model.backbones.resnet import Backbone, pooled
from scfs.weights import catalogue, import_weights
from scfs.weights.catalogue import PublicWeights
from scfs.weights.store import Weights, load_backbone, load_weights, save_weights

pytestmark = pytest.mark.usefixtures("narrow")


def imported_file(path: Path, format: str, backbone: str, out: Path) -> None:
    settings = Imported(weights=str(path), format=format, backbone=backbone)  # type: ignore[arg-type]
    import_weights.import_weights(path, format, out, "theirs", settings)


def features(weights: Path, name: str, images: Tensor, which: str = "teacher") -> Tensor:
    """In float64: `load_backbone` gives float32, as the evaluations use it."""
    tensors, _ = load_weights(weights, f"{which}.backbone.")
    backbone = Backbone(name).double().eval()
    backbone.load_state_dict(tensors, strict=True)
    with torch.no_grad():
        return pooled(backbone(images)["layer4"])


def theirs(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return model(images)


IMAGES = torch.randn(2, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@pytest.mark.parametrize(("library", "ending"), [("torchvision", "pth"), ("timm", "safetensors"), ("timm", "pth")])
def test_libraries(name: str, library: str, ending: str, tmp_path: Path) -> None:
    model = network(name, library)
    path = save(tmp_path / f"w.{ending}", model.state_dict())
    out = tmp_path / "out.safetensors"
    imported_file(path, library, name, out)
    scores = theirs(model, IMAGES)
    found = features(out, name, IMAGES)
    classifier, about = load_weights(out, "teacher.classifier.")
    torch.testing.assert_close(found @ classifier["weight"].T + classifier["bias"], scores, rtol=1e-12, atol=1e-12)
    model.fc = nn.Identity()
    torch.testing.assert_close(found, theirs(model, IMAGES), rtol=1e-12, atol=1e-12)
    assert about.settings["backbone"] == name and load_backbone(out)[0].name == name
    with pytest.raises(ScfsError, match=r"out\.safetensors: holds no tensors named student\.backbone\.\*"):
        load_backbone(out, "student")


@pytest.mark.parametrize(
    ("wrapped", "head"),
    [
        (True, {}),
        (False, {"norm": "new"}),
        (True, {"batch_norm": True}),
        (False, {"batch_norm": True, "depth": 2, "norm": "none"}),  # as in DINO's ResNet-50 checkpoint
    ],
)
def test_dinos_checkpoints(wrapped: bool, head: dict[str, Any], tmp_path: Path) -> None:
    student, teacher = (without_classifier(network("resnet18", seed=seed)) for seed in (1, 2))
    heads = [ProjectionHead(64, **head) for _ in range(2)]
    path = tmp_path / "full.pth"
    dino(path, encoder(student, heads[0], wrapped=True), encoder(teacher, heads[1], wrapped=wrapped))
    out = tmp_path / "out.safetensors"
    imported_file(path, "dino", "resnet18", out)
    for which, model, projection in (("student", student, heads[0]), ("teacher", teacher, heads[1])):
        assert torch.equal(features(out, "resnet18", IMAGES, which), theirs(model, IMAGES)), which
        tensors, _ = load_weights(out, f"{which}.head.")
        assert len(tensors) == len(projection.state_dict())
        state = dict(projection.state_dict())
        old = {"last_layer.weight_g": "original0", "last_layer.weight_v": "original1"}
        for key, value in tensors.items():
            name = f"last_layer.parametrizations.weight.{old[key]}" if head.get("norm") == "new" and key in old else key
            assert torch.equal(state[name], value), key
    backbone = save(tmp_path / "backbone.pth", teacher.state_dict())
    imported_file(backbone, "dino", "resnet18", out)
    assert torch.equal(features(out, "resnet18", IMAGES), theirs(teacher, IMAGES))


@pytest.mark.parametrize(("name", "channels"), [("resnet18", (16, 32, 64)), ("resnet50", (64, 128, 256))])
def test_the_authors_checkpoints(name: str, channels: tuple[int, ...], tmp_path: Path) -> None:
    networks = official(tmp_path / "ckpt.pth", name, channels)
    out = tmp_path / "out.safetensors"
    imported_file(tmp_path / "ckpt.pth", "official", name, out)
    for which, model in networks.items():
        assert torch.equal(features(out, name, IMAGES, which), theirs(model, IMAGES)), which
    content = torch.load(tmp_path / "ckpt.pth", weights_only=True)
    tensors, _ = load_weights(out, "")
    given = {
        f"{which}.{key.removeprefix('module.').replace('backbone.model.', 'backbone.')}": value
        for which in networks
        for key, value in content[which].items()
    }
    assert tensors.keys() == given.keys()
    assert all(torch.equal(tensors[key], given[key]) for key in given)


def test_counters_that_older_files_lack_are_zero_and_change_nothing(tmp_path: Path) -> None:
    model = network("resnet18")
    state = {key: value for key, value in model.state_dict().items() if not key.endswith("num_batches_tracked")}
    out = tmp_path / "out.safetensors"
    imported_file(save(tmp_path / "old.pth", state), "torchvision", "resnet18", out)
    assert torch.equal(features(out, "resnet18", IMAGES), theirs(without_classifier(model), IMAGES))
    assert load_weights(out, "teacher.backbone.bn1.")[0]["num_batches_tracked"].dtype == torch.int64


class Hostile:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


def refused(path: Path, format: str, message: str, backbone: str = "resnet18") -> None:
    out = path.parent / "out.safetensors"
    with pytest.raises(ScfsError, match=message) as error:
        imported_file(path, format, backbone, out)
    assert (
        "\n" not in str(error.value) and str(path) in str(error.value) and len(str(error.value)) < 400 + len(str(path))
    )
    assert not out.exists() and not list(path.parent.glob(".*"))


def test_keys_and_shapes_that_do_not_fit(tmp_path: Path) -> None:
    state = network("resnet18").state_dict()
    path = tmp_path / "w.pth"
    extra = {**state, "layer5.weight": torch.zeros(1)}
    refused(save(path, extra), "torchvision", r"does not fit resnet18: 1 key \('layer5\.weight'\) unknown")
    lacking = {key: value for key, value in state.items() if key != "layer4.1.conv2.weight"}
    refused(save(path, lacking), "timm", r"does not fit resnet18: 1 key \('layer4\.1\.conv2\.weight'\) missing")
    other = {**state, "bn1.bias": torch.zeros(9)}
    refused(save(path, other), "torchvision", r"'bn1\.bias' has shape \(9,\), allowed is \(8,\)")
    refused(save(path, {**state, "bn1.bias": 3}), "torchvision", r"'bn1\.bias' is a int, not a dense tensor")  # type: ignore[dict-item]
    half = {key: value for key, value in state.items() if key != "fc.bias"}
    refused(save(path, half), "torchvision", r"its classifier does not fit: 1 key \('fc\.bias'\) missing")
    refused(save(path, state), "torchvision", r"36 keys? .*missing|missing.*its keys are those of resnet18", "resnet34")
    with pytest.raises(ScfsError, match=r"its keys are those of resnet34$"):
        deeper = network("resnet34")
        imported_file(save(path, without_classifier(deeper).state_dict()), "dino", "resnet50", tmp_path / "o")
    refused(
        save(path, state), "torchvision", "'narrow_resnet18': no such architecture in the format", "narrow_resnet18"
    )
    refused(save(path, state), "dino", r"2 keys \('fc\.weight', 'fc\.bias'\) unknown")
    torch.save([torch.zeros(1)], path)
    refused(path, "torchvision", "holds a list, not a mapping from names to tensors")


def test_checkpoints_that_do_not_fit(tmp_path: Path) -> None:
    model, head = without_classifier(network("resnet18")), ProjectionHead(64)
    state = encoder(model, head)
    path = tmp_path / "w.pth"
    torch.save({"student": state, "epoch": 1}, path)
    refused(path, "dino", r"has no key 'teacher', only \['epoch', 'student'\]")
    refused(path, "official", r"has no key 'teacher', only \['epoch', 'student'\]")
    refused(dino(path, state, state, swav=1), "dino", "unknown key 'swav': allowed are")
    refused(dino(path, state, {**state, "module.neck.weight": torch.zeros(1)}), "dino", r"teacher: 1 key .* unknown")
    lacking = {key: value for key, value in state.items() if key != "module.head.mlp.2.weight"}
    refused(dino(path, lacking, state), "dino", "student: its head does not fit: ")
    lacking = {key: value for key, value in state.items() if key != "module.head.last_layer.weight_g"}
    refused(dino(path, state, lacking), "dino", r"teacher: its head does not fit: 1 key \('last_layer\.weight_g'\)")
    headless = {key: value for key, value in state.items() if ".head." not in key}
    refused(dino(path, state, headless), "dino", "teacher: its head does not fit: ")
    mixed = {key.replace("module.", "") if "conv1" in key else key: value for key, value in state.items()}
    refused(dino(path, state, mixed), "dino", "teacher: does not fit resnet18")
    refused(dino(path, state, state), "official", "unknown key 'args'")
    refused(save(path, model.state_dict()), "official", "has no key 'teacher'")


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    path, mark = tmp_path / "w.pth", tmp_path / "ran"
    torch.save({"a": Hostile(mark)}, path)
    refused(path, "torchvision", r"refused: its pickle needs (posix|nt)\.system, which is more than tensors")
    path.write_bytes(pickle.dumps({"a": Hostile(mark)}, protocol=2))
    refused(path, "torchvision", r"refused: its pickle needs (posix|nt)\.system|not a readable file of torch\.save")
    assert not mark.exists()
    state = network("resnet18").state_dict()
    whole = save(path, state).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused(path, "torchvision", r"not a readable file of torch\.save")
    path.write_bytes(b"<html>404</html>")
    refused(path, "torchvision", r"not a readable file of torch\.save")
    plain = save(tmp_path / "w.safetensors", state)
    plain.write_bytes(plain.read_bytes()[:5000])
    refused(plain, "timm", "not a readable safetensors file")
    refused(tmp_path / "none.pth", "timm", "no such weights file")


@pytest.fixture
def entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PublicWeights:
    """The only entry of a catalogue: a file of torchvision's, fetched from a folder."""
    source = save(tmp_path / "source.pth", network("resnet18").state_dict())
    values = {
        "url": source.as_uri(),
        "file": "resnet18.pth",
        "sha256": sha256_of(source)[:8],
        "size": None,
        "licence": "BSD-3-Clause",
        "citation": "nobody",
        "format": "torchvision",
        "backbone": "resnet18",
        "encoders": ["teacher"],
    }
    made: PublicWeights = parse(PublicWeights, values, "test")
    monkeypatch.setattr(catalogue, "catalogue", lambda: {"some-resnet18": made})
    return made


def run_of(tmp_path: Path, **values: Any) -> tuple[Path, Path]:
    weights, result = tmp_path / "checkpoints" / "them.safetensors", tmp_path / "results" / "pretrain.json"
    import_weights.import_run("them", Imported(**values), weights, result, tmp_path / "downloads")
    return weights, result


def test_an_entry_of_the_catalogue_is_a_run(entry: PublicWeights, tmp_path: Path) -> None:
    weights, result = run_of(tmp_path, weights="some-resnet18", backbone="resnet18")
    record = json.loads(result.read_text())
    backbone, about = load_backbone(weights)
    model = without_classifier(network("resnet18"))
    assert torch.allclose(pooled(backbone(IMAGES.float())["layer4"]).double(), theirs(model, IMAGES), atol=1e-4)
    assert record["weights"]["sha256"] == sha256_of(weights) and record["identity"] == about.identity
    assert (record["values"], record["curve"], record["warnings"], record["dataset"]) == ({}, {}, [], None)
    assert record["settings"] == {"weights": "some-resnet18", "backbone": "resnet18", "format": None}
    assert record["source"] == {
        "entry": "some-resnet18",
        "file": "resnet18.pth",
        "sha256": sha256_of(tmp_path / "source.pth"),
        "url": entry.url,
        "licence": "BSD-3-Clause",
        "citation": "nobody",
    }
    before = weights.read_bytes(), result.read_bytes()
    run_of(tmp_path, weights="some-resnet18", backbone="resnet18")
    assert (weights.read_bytes(), result.read_bytes()) == before
    # The same file by its own name is the same run, wherever it lies.
    run_of(tmp_path, weights=str(tmp_path / "source.pth"), backbone="resnet18", format="torchvision")
    assert json.loads(result.read_text())["identity"] == record["identity"]


def test_an_entry_that_does_not_fit(entry: PublicWeights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ScfsError, match=r"no weights 'other': not among \['some-resnet18'\]"):
        run_of(tmp_path, weights="other", backbone="resnet18")
    with pytest.raises(ScfsError, match=r"does not fit resnet34: .*; its keys are those of resnet18"):
        run_of(tmp_path, weights="some-resnet18", backbone="resnet34")
    both = entry.model_copy(update={"encoders": ("student", "teacher")})
    monkeypatch.setattr(catalogue, "catalogue", lambda: {"some-resnet18": both})
    with pytest.raises(ScfsError, match=r"holds \['teacher'\], the catalogue says \['student', 'teacher'\]"):
        run_of(tmp_path, weights="some-resnet18", backbone="resnet18")
    assert not (tmp_path / "checkpoints").exists() and not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"weights": "dino-resnet50", "backbone": "vgg"}, "backbone = 'vgg': Input should be 'resnet18'"),
        ({"weights": "a/b.pth", "backbone": "resnet50"}, "format is missing"),
        ({"weights": "dino-resnet50", "backbone": "resnet50", "format": "dino"}, "format does not apply"),
        ({"weights": "a.pth", "backbone": "resnet50", "format": "swav"}, "format = 'swav'"),
    ],
)
def test_settings_are_checked(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ScfsError, match=message):
        parse(Imported, values, "params.yaml: runs.them")


def test_our_own_file_is_a_source_like_any_other_and_keeps_its_provenance(tmp_path: Path) -> None:
    backbone = Backbone("resnet18").state_dict()
    tensors = {
        f"{which}.backbone.{key}": value.clone() for which in ("teacher", "student") for key, value in backbone.items()
    }
    tensors |= {"teacher.head.mlp.0.weight": torch.ones(2, 3), "student.head.mlp.0.weight": torch.zeros(2, 3)}
    about = Weights("photos", "0123", {"backbone": "resnet18"}, "digest", "bf16", ["cat", "dog"])
    save_weights(tmp_path / "w.pth", tensors, about)
    settings = parse(Imported, {"weights": str(tmp_path / "w.pth"), "format": "timm", "backbone": "resnet18"}, "study")
    out, result = tmp_path / "out.safetensors", tmp_path / "r.json"
    import_weights.import_run("again", settings, out, result)
    found, whose = load_weights(out, "")
    assert found.keys() == tensors.keys() and all(torch.equal(found[key], tensors[key]) for key in found)
    assert (whose.run, whose.dataset_digest, whose.precision, whose.classes) == (
        "again",
        "digest",
        "bf16",
        ["cat", "dog"],
    )
    source = json.loads(result.read_text())["source"]
    assert (source["run"], source["identity"], source["entry"]) == ("photos", "0123", None)
    save_weights(tmp_path / "w.pth", {**tensors, "teacher.head.mlp.0.weight": torch.full((1,), torch.nan)}, about)
    with pytest.raises(ScfsError, match=r"w\.pth: 'teacher\.head\.mlp\.0\.weight' has numbers that are not finite"):
        import_weights.import_run("again", settings, out, result)
    with pytest.raises(ScfsError, match="does not fit resnet50: it is a resnet18"):
        import_weights.tensors_of(tmp_path / "w.pth", "timm", "resnet50")
