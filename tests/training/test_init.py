"""A pre-training that starts from weights: what is taken, what is new, what the identity knows, exact under resume."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from scfs.config.pretrain import Pretrain
from scfs.data.sources.folders import image_folder
from scfs.errors import ScfsError
from scfs.io.results import sha256_of
from scfs.model.backbones.registry import build_backbone
from scfs.training.loop import Pretraining
from scfs.training.pretrain import pretrain
from scfs.weights.export import export
from scfs.weights.initial import read_initial
from scfs.weights.store import load_weights


def train(settings: Pretrain, images: Path, out: Path, name: str = "tiny") -> Path:
    pretrain(name, settings, image_folder(images), weights=out / "w.safetensors", result=out / "r.json",
             folder=out / "run", device="cpu", save_every=0)  # fmt: skip
    return out / "w.safetensors"


def changed(settings: Pretrain, **values: object) -> Pretrain:
    plain = settings.model_dump(mode="json")
    nested = {key: {**plain[key], **value} if isinstance(value, dict) else value for key, value in values.items()}
    return Pretrain.model_validate({**plain, **nested})


def begun(settings: Pretrain, file: Path) -> tuple[Pretraining, list[str]]:
    training = Pretraining(settings, 4, torch.device("cpu"), "fp32", "0123")
    return training, training.start_from(read_initial(file, settings.backbone))


@pytest.fixture(scope="module")
def first(tiny: Pretrain, noise_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(changed(tiny, epochs=1), noise_folder, tmp_path_factory.mktemp("first"))


def test_our_file_gives_backbone_and_heads_to_both_encoders(tiny: Pretrain, first: Path, tmp_path: Path) -> None:
    file = shutil.copy(first, tmp_path / "renamed.bin")  # what it says of itself counts, not its name
    training, new = begun(tiny, file)
    assert new == [] and training.frozen_steps == 0
    teacher, _ = load_weights(file, "teacher.")
    for encoder in (training.model.student, training.model.teacher):
        state = encoder.state_dict()
        assert state.keys() == teacher.keys() and all(torch.equal(state[key], teacher[key]) for key in teacher)


def test_heads_of_another_size_are_new_and_the_backbone_waits_for_them(tiny: Pretrain, first: Path) -> None:
    settings = changed(tiny, head={"prototypes": 12}, optimizer={"freeze_backbone": 0.5})
    training, new = begun(settings, first)
    assert new == ["head"] and training.frozen_steps == 2
    dino = changed(settings, method="dino")
    assert begun(dino, first)[1] == ["head"]  # the file's other heads have no place


@pytest.mark.parametrize("format", ["torchvision", "timm", "safetensors", "pth"])
def test_exported_files_and_those_of_libraries(format: str, tiny: Pretrain, tmp_path: Path, noise_folder: Path) -> None:
    settings = changed(tiny, backbone="resnet50", method="dino", epochs=1)
    own = train(settings, noise_folder, tmp_path)
    out = tmp_path / f"theirs.{'pth' if format == 'pth' else 'safetensors'}"
    export(own, format, "teacher", out)
    initial = read_initial(out, "resnet50")
    teacher, _ = load_weights(own, "teacher.backbone.")
    assert all(torch.equal(initial.tensors[f"backbone.{key}"], teacher[key]) for key in teacher)
    assert initial.source == {"file": out.name, "sha256": sha256_of(out)}


def test_a_checkpoint_of_dinos_code_gives_its_teacher(tmp_path: Path) -> None:
    networks = {name: build_backbone("resnet50") for name in ("student", "teacher")}
    state = {
        key: {f"module.backbone.{name}": value for name, value in network.state_dict().items()}
        | {f"module.head.{name}": value for name, value in head().items()}
        for key, network in networks.items()
    }
    torch.save({**state, "epoch": 3, "args": None}, tmp_path / "checkpoint.pth")
    found = read_initial(tmp_path / "checkpoint.pth", "resnet50").tensors
    assert torch.equal(found["backbone.conv1.weight"], networks["teacher"].state_dict()["conv1.weight"])
    assert found["head.last_layer.weight"].shape == (5, 4)


def head() -> dict[str, torch.Tensor]:
    mlp = nn.Sequential(nn.Linear(512, 6), nn.GELU(), nn.Linear(6, 4))
    return {f"mlp.{key}": value for key, value in mlp.state_dict().items()} | {"last_layer.weight": torch.ones(5, 4)}


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("none.safetensors", r"none\.safetensors: no such weights file"),
        ("garbage.pth", r"garbage\.pth: not a readable file of torch\.save"),
        ("other.safetensors", r"other\.safetensors: does not fit resnet50: it is a narrow_resnet18"),
        ("theirs.pth", r"theirs\.pth: does not fit resnet50: .*; its keys are those of narrow_resnet18"),
        ("nan.pth", r"nan\.pth: .*has numbers that are not finite"),
    ],
)
def test_what_cannot_be_started_from(name: str, line: str, first: Path, tmp_path: Path) -> None:
    (tmp_path / "garbage.pth").write_bytes(b"x" * 50)
    shutil.copy(first, tmp_path / "other.safetensors")
    torch.save(build_backbone("narrow_resnet18").state_dict(), tmp_path / "theirs.pth")
    damaged = build_backbone("narrow_resnet18").state_dict()
    damaged["conv1.weight"].fill_(torch.nan)
    torch.save(damaged, tmp_path / "nan.pth")
    with pytest.raises(ScfsError, match=line):
        read_initial(tmp_path / name, "narrow_resnet18" if name == "nan.pth" else "resnet50")


def test_the_backbone_is_held_and_a_resumed_run_ends_with_the_same_bytes(
    tiny: Pretrain, first: Path, noise_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    held = {"freeze_backbone": 2, "warmup_epochs": 0}
    settings = changed(tiny, epochs=2, init=str(first), head={"prototypes": 12}, optimizer=held)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(settings, noise_folder, whole)
    said = capfd.readouterr().err
    assert f"starts from {first}, which scfs trained as tiny; new are head; the backbone is held for 8 steps" in said
    start, student = (
        load_weights(file, key)[0] for file, key in ((first, "teacher."), (whole / "w.safetensors", "student."))
    )
    moved = {key for key in student if key not in start or not torch.equal(student[key], start[key])}
    network = build_backbone(settings.backbone)
    assert not any(f"backbone.{key}" in moved for key, _ in network.named_parameters())
    assert "head.mlp.0.weight" in moved and "layer2_head.conv1.weight" in moved
    shutil.copytree(whole / "run", cut / "run")
    sorted((cut / "run" / "checkpoints").glob("step-*.pt"))[-1].unlink()
    train(settings, noise_folder, cut)
    for name in ("w.safetensors", "r.json"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes(), name
    record = json.loads((whole / "r.json").read_text())["init"]
    about = load_weights(first, "teacher.")[1]
    assert record == {"file": "w.safetensors", "sha256": sha256_of(first), "run": "tiny", "identity": about.identity}


def test_the_identity_knows_the_content_and_not_the_place(
    tiny: Pretrain, first: Path, noise_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    moved = shutil.copy(first, tmp_path / "moved.safetensors")
    settings = changed(tiny, epochs=1)
    train(changed(settings, init=str(first)), noise_folder, tmp_path)
    train(changed(settings, init=str(moved)), noise_folder, tmp_path)
    pair = [load_weights(file, "student.backbone.conv1.")[0]["weight"] for file in (first, tmp_path / "w.safetensors")]
    assert not torch.equal(*pair)  # not held
    assert f"for more epochs start another one from it (--init {tmp_path / 'w.safetensors'}" in capfd.readouterr().err
    with pytest.raises(ScfsError, match=r"init = '[0-9a-f]{64}' and not None"):
        train(settings, noise_folder, tmp_path)
    with pytest.raises(ScfsError, match=r"init = '[0-9a-f]{64}' and not '[0-9a-f]{64}'"):
        train(changed(settings, init=str(tmp_path / "w.safetensors")), noise_folder, tmp_path)


def test_without_epochs_there_is_nothing_to_start(tiny: Pretrain) -> None:
    with pytest.raises(ValueError, match="epochs must be at least 1 with init"):
        changed(tiny, epochs=0, init="w.pth", optimizer={"warmup_epochs": 0})
