"""What a training reports, and when it stops by itself."""

import json
import math
import subprocess
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from scfs.config.pretrain import Pretrain
from scfs.data.sources.folders import image_folder
from scfs.errors import ScfsError
from scfs.model.methods import build_method
from scfs.training.pretrain import pretrain
from scfs.training.schedules import Schedules
from scfs.weights.store import load_backbone, load_weights


def train(settings: Pretrain, images: Path, out: Path) -> dict:
    pretrain("tiny", settings, image_folder(images), weights=out / "w.safetensors", result=out / "r.json",
             folder=out / "run", device="cpu", save_every=0)  # fmt: skip
    return json.loads((out / "r.json").read_text())


def changed(settings: Pretrain, **values: object) -> Pretrain:
    return Pretrain.model_validate(settings.model_dump() | values)


def test_record_has_every_term_of_every_epoch(tiny: Pretrain, noise_folder: Path, tmp_path: Path) -> None:
    record = train(tiny, noise_folder, tmp_path)
    curve = record["curve"]
    layers = [f"loss_{layer}_{part}" for layer in tiny.layers for part in ("global", "search")]
    assert set(curve) == {"epoch", "step", "lr", "loss", "loss_data", "teacher_entropy", "center_norm", *layers}
    assert curve["epoch"] == [1, 2, 3] and curve["step"] == [4, 8, 12]
    for index in range(3):  # Eq. 11 with the authors' weights
        total = curve["loss_data"][index] + sum(0.5 * curve[name][index] for name in layers)
        assert curve["loss"][index] == pytest.approx(total, rel=1e-5)
    assert curve["lr"][-1] == pytest.approx(Schedules(tiny, 4).lr(11))
    occasion = json.loads((tmp_path / "r.run.json").read_text())
    assert occasion["images_per_second"] > 0 and 0 <= occasion["data_wait_share"] <= 1
    board = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    signs = {"rank", "feature_deviation", "entropy_of_mean", "gradient_norm"}
    speed = {"images_per_second", "data_wait_share"}
    assert set(board.Tags()["scalars"]) == (set(curve) - {"epoch", "step"}) | speed | signs
    assert [point.value for point in board.Scalars("lr")] == pytest.approx(curve["lr"])
    points = (tmp_path / "run" / "dvclive" / "plots" / "metrics" / "loss_data.tsv").read_text().splitlines()
    assert len(points) == 1 + 3  # a head line and one fetch per epoch: four steps are fewer than the interval


def test_method_dino_has_no_layer_terms_and_no_layer_heads(tiny: Pretrain, noise_folder: Path, tmp_path: Path) -> None:
    record = train(changed(tiny, method="dino"), noise_folder, tmp_path)
    assert not [name for name in record["curve"] if "layer" in name]
    assert record["curve"]["loss"] == record["curve"]["loss_data"]
    tensors, _ = load_weights(tmp_path / "w.safetensors", "student.")
    assert not [name for name in tensors if name.startswith("layer")]


def test_no_epochs_exports_the_initial_weights(tiny: Pretrain, noise_folder: Path, tmp_path: Path) -> None:
    settings = changed(tiny, epochs=0)
    record = train(settings, noise_folder, tmp_path)
    assert record["curve"] == {}
    backbone, _ = load_backbone(tmp_path / "w.safetensors")
    fresh = build_method(settings).teacher.backbone.state_dict()
    assert all(torch.equal(value, fresh[name]) for name, value in backbone.state_dict().items())


def test_teacher_follows_and_last_layer_is_frozen_in_the_first_epoch(
    tiny: Pretrain, noise_folder: Path, tmp_path: Path
) -> None:
    train(changed(tiny, optimizer={**tiny.optimizer.model_dump(), "freeze_last_layer": 3}), noise_folder, tmp_path)
    trained, _ = load_weights(tmp_path / "w.safetensors", "")
    initial = build_method(tiny).state_dict()
    assert torch.equal(trained["student.head.last_layer.weight_v"], initial["student.head.last_layer.weight_v"])
    for name in ("student.head.mlp.0.weight", "teacher.head.mlp.0.weight", "teacher.layer2_head.conv1.weight"):
        assert not torch.equal(trained[name], initial[name]), name
    moved = [
        (trained[f"{who}.backbone.conv1.weight"] - initial[f"{who}.backbone.conv1.weight"]).norm()
        for who in ("student", "teacher")
    ]
    assert moved[1] < moved[0]


def test_divergence_stops_with_step_terms_and_rate(tiny: Pretrain, noise_folder: Path, tmp_path: Path) -> None:
    optimizer = {**tiny.optimizer.model_dump(), "lr": 1e38, "warmup_epochs": 0, "clip": 0}
    with pytest.raises(
        ScfsError, match=r"training diverged at step \d+: .*loss .*loss_data .*loss_layer4_search .*lr "
    ):
        train(changed(tiny, optimizer=optimizer), noise_folder, tmp_path)
    assert not (tmp_path / "w.safetensors").exists()
    for path in (tmp_path / "run" / "checkpoints").glob("*.pt"):
        state = torch.load(path, weights_only=True)
        assert all(math.isfinite(value) for value in state["monitor"]["sums"].values())
        assert all(value.float().norm() < 1e8 for value in state["model"].values())


def test_weights_that_explode_in_the_last_step_are_not_exported(
    tiny: Pretrain, noise_folder: Path, tmp_path: Path
) -> None:
    """No loss is computed after it, so the guard has to look at the weights."""
    optimizer = {**tiny.optimizer.model_dump(), "lr": 1e38, "warmup_epochs": 0, "clip": 0}
    settings = changed(tiny, optimizer=optimizer, epochs=1, batch=24)
    with pytest.raises(ScfsError, match=r"training diverged at step 0: the weights exploded; loss .*, lr "):
        train(settings, noise_folder, tmp_path)
    assert not (tmp_path / "w.safetensors").exists()


def test_too_few_images_for_a_batch(tiny: Pretrain, noise_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ScfsError, match=r"24 images.*batch.*48"):
        train(changed(tiny, batch=48), noise_folder, tmp_path)


def test_a_git_repository_around_the_run_is_left_alone(
    tiny: Pretrain, noise_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVCLive by itself runs `dvc init` there, and fails where there is no commit yet."""
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    monkeypatch.chdir(tmp_path)
    train(tiny, noise_folder, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".git", "out"]
    staged = subprocess.run(["git", "diff", "--cached", "--name-only"], check=True, capture_output=True, text=True)
    assert staged.stdout == ""
