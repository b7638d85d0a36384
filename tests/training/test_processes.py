"""Several processes compute what a single one computes from the whole batch (float64, gloo, real processes)."""

import json
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import ranks
import torch
from repository import ROOT, command_environment
from warm import warm_programs

from scfs.data.sources.folders import image_folder
from scfs.errors import ScfsError
from scfs.runtime.world import World
from scfs.training.pretrain import view_batches
from scfs.weights.store import load_weights

pytestmark = pytest.mark.end_to_end

SIZES = (2, 3)


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Equal to 1e-9 of the largest value; a bias in front of BatchNorm has no gradient but rounding, hence 1e-12."""
    return bool((one.double() - other.double()).abs().max() <= 1e-9 * one.double().abs().max() + 1e-12)


@pytest.fixture(scope="module", params=SIZES)
def meeting(request: pytest.FixtureRequest, noise_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `ranks.together` has found with some number of processes."""
    out = tmp_path_factory.mktemp(f"of-{request.param}")
    codes, errors = ranks.end(ranks.start("together", out, noise_folder, request.param))
    assert codes == [0] * request.param, errors
    return out


@pytest.fixture(scope="module")
def alone(noise_folder: Path) -> dict:
    return {case: ranks.trained(case, noise_folder) for case in ranks.CASES}


def found(meeting: Path, name: str) -> list:
    return [torch.load(path) for path in sorted(meeting.glob(f"{name}-?.pt"))]


def test_losses_centres_buffers_and_weights_are_those_of_one_process(meeting: Path, alone: dict) -> None:
    """Also the oracle's values, which `ranks.check_oracle` has compared in the processes."""
    size = int(meeting.name.split("-")[1][0])
    for case in ranks.cases(size):
        (terms, state), everyone = alone[case], found(meeting, case)
        assert len(everyone) == size
        for other_terms, other_state in everyone:
            for step, (one, other) in enumerate(zip(terms, other_terms, strict=True)):
                assert other == pytest.approx(one, rel=1e-9, abs=1e-12), f"{case}, step {step}"
            assert list(other_state) == list(state)
            for name, value in state.items():
                assert close(value, other_state[name]), f"{case}: {name}"
                assert torch.equal(other_state[name], everyone[0][1][name]), f"{case}: {name} differs between ranks"


def test_what_is_compared_has_learned_and_left_crops_out(alone: dict, noise_folder: Path) -> None:
    for case, (terms, state) in alone.items():
        initial = ranks.untrained(case, 3).model.state_dict()
        backbone = {"vit": "student.backbone.blocks.3.attn.qkv.weight"}.get(
            case, "student.backbone.layer3.0.conv1.weight"
        )
        heads = ["teacher.classifier.weight"] if case == "supervised" else ["teacher.head.mlp.0.weight", "center"]
        for name in (backbone, *heads):
            assert (state[name] - initial[name]).abs().max() > 1e-6, f"{case}: {name}"
        assert terms[0] != terms[1]
    from scfs.model.roi_crop import local_boxes

    data = view_batches(image_folder(noise_folder), ranks.settings("roi_crop"), World())
    crop_boxes = [data[step].crop_boxes for step in range(2)]
    counted = [local_boxes(boxes, 1, 32)[1] for boxes in crop_boxes if boxes is not None]
    assert all(0 < of_step.sum() < of_step.numel() for of_step in counted)


def test_batch_norm_over_processes_is_that_of_the_joined_batch(meeting: Path) -> None:
    everyone = found(meeting, "norms")
    for name in ranks.NORMS:
        whole = ranks.norm_of_whole(name, lambda images: slice(0, images))
        parts = [of_rank[name] for of_rank in everyone]
        for key, value in whole.items():
            if key.startswith(("y", "dx")):
                ours = torch.cat([part[key] for part in parts])
                assert torch.allclose(ours, value, rtol=1e-9, atol=1e-9), (name, key)  # about a mean of 1000
            else:
                assert all(torch.allclose(part[key], value, rtol=1e-9, atol=1e-9) for part in parts), (name, key)


@pytest.mark.parametrize("parts", [1, 2])
def test_batches_are_the_same_sets_at_any_number_of_processes(noise_folder: Path, parts: int) -> None:
    images = image_folder(noise_folder)
    settings = ranks.settings("scfs").model_copy(update={"batch": 8, "accumulate": parts})
    whole = view_batches(images, settings, World())
    for size in (2, 3, 4):
        shares = [view_batches(images, settings, World(rank, size)) for rank in range(size)]
        for step in range(0, len(whole), 2):
            batch, cut = whole[step].parts(parts), [share[step].parts(parts) for share in shares]
            for index, part in enumerate(batch):
                assert torch.equal(part.rows, torch.cat([of_rank[index].rows for of_rank in cut]))
                assert {len(of_rank[index].rows) for of_rank in cut} <= {8 // parts // size, -(-8 // parts // size)}
                pixels = [of_rank[index].global_crops.unflatten(0, (2, -1)) for of_rank in cut]
                assert torch.equal(part.global_crops, torch.cat(pixels, dim=1).flatten(0, 1))


def test_a_part_needs_an_image_for_every_process(noise_folder: Path) -> None:
    with pytest.raises(ScfsError, match=r"batch / accumulate = 3 images, fewer than the 5 processes"):
        view_batches(image_folder(noise_folder), ranks.settings("parts"), World(0, 5))


def steps_done(out: Path) -> int:
    return max((int(path.name.split("-")[1]) for path in (out / "run" / "checkpoints").glob("step-*.pt")), default=0)


def wait_for_step(step: int, out: Path, processes: list[subprocess.Popen[str]]) -> None:
    while steps_done(out) < step and all(process.poll() is None for process in processes):
        time.sleep(0.002)


def test_stopped_killed_and_resumed_with_other_numbers_of_processes(
    noise_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranks.stage, "resolve_precision", lambda *_: "fp64")
    whole, out = tmp_path / "whole", tmp_path / "cut"
    ranks.whole_stage(whole, noise_folder)
    two = ranks.start("stage", out, noise_folder, 2)
    wait_for_step(3, out, two)
    two[1].send_signal(signal.SIGTERM)
    codes, errors = ranks.end(two, timeout=30)
    assert codes == [1, 1] and errors.count("scfs: ") == 1
    assert f"scfs: stopped by SIGTERM at step {steps_done(out)} of 20; start again" in errors

    three = ranks.start("stage", out, noise_folder, 3)
    wait_for_step(steps_done(out) + 3, out, three)
    three[2].kill()
    codes, errors = ranks.end(three, timeout=30)
    assert codes == [1, 1, -signal.SIGKILL] and errors.count("scfs: ") == 1
    assert "scfs: another process of this training has ended" in errors and "Traceback" not in errors

    assert 6 <= steps_done(out) < 20
    ranks.whole_stage(out, noise_folder)
    expected, actual = (load_weights(folder / "w.safetensors", "")[0] for folder in (whole, out))
    for name, value in expected.items():
        assert close(value, actual[name]), name
    curves = [json.loads((folder / "r.json").read_text())["curve"] for folder in (whole, out)]
    for name in curves[0]:
        assert np.allclose(*(curve[name] for curve in curves), rtol=1e-6), name  # kept in float32


def test_an_error_of_one_process_ends_all_with_one_line(noise_folder: Path, tmp_path: Path) -> None:
    processes = ranks.start("bad", tmp_path, noise_folder, 2)
    wait_for_step(5, tmp_path, processes)
    codes, errors = ranks.end(processes, timeout=10)
    assert codes == [1, 1]
    assert errors.count("scfs: ") == 1 and "scfs: x.png: not a readable image" in errors and "Traceback" not in errors
    assert not (tmp_path / "w.safetensors").exists()


def test_command_line_under_torchrun_is_stopped_and_resumed(noise_folder: Path, tmp_path: Path) -> None:
    overrides = {
        "views.global_size": 32, "views.local_size": 16, "views.local_number": 1, "head.hidden": 16,
        "head.bottleneck": 8, "head.prototypes": 24, "optimizer.warmup_epochs": 1,
    }  # fmt: skip
    python = str(warm_programs() / "warm-python")
    command = [python, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--", "scfs.cli",
               "--log", str(tmp_path / "log"), "pretrain", str(noise_folder), "--out", str(tmp_path), "--device", "cpu",
               "--method", "dino", "--backbone", "narrow_resnet18", "--batch", "6", "--epochs", "4", "--threads", "1", "--workers", "1",
               "--save-every", "0"]  # fmt: skip
    command += [word for key, value in overrides.items() for word in ("--set", f"{key}={value}")]
    environment = command_environment(ROOT) | {"PYTHON_EXEC": python}  # with which torchrun starts its processes
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    state = tmp_path / "state"
    while not list(state.glob("checkpoints/step-*.pt")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)  # torchrun passes it on to all
    _, errors = process.communicate(timeout=60)
    assert process.returncode and errors.count("scfs: stopped by SIGTERM at step") == 1, errors
    assert not (tmp_path / "weights.safetensors").exists()

    done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "log").read_text().splitlines()
    for line in ("2 processes with up to 3 images of each batch, BatchNorm synchronised over them", "resuming at step"):
        assert sum(line in other for other in lines) == (2 if line.startswith("2") else 1), line
    for epoch in range(1, 5):
        assert sum(line.startswith(f"epoch {epoch}: ") for line in lines) == 1
    assert json.loads((tmp_path / "pretrain.run.json").read_text())["processes"] == 2
    tensors, _ = load_weights(tmp_path / "weights.safetensors", "teacher.")
    assert all(torch.isfinite(value).all() for value in tensors.values())
