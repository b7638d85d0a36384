"""Killed and resumed, or shared by processes, a fine-tuning comes to what one uninterrupted process comes to."""

import json
import os
import signal
import time
from pathlib import Path

import finetune_ranks
import pytest
import torch
from tuned import small

from scfs import paths
from scfs.errors import ScfsError
from scfs.evaluation.finetune import job, stage

pytestmark = pytest.mark.end_to_end

Files = tuple[Path, Path]


@pytest.fixture
def files(workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    """Weights and manifest, for a current folder of its own."""
    monkeypatch.chdir(tmp_path)
    return workplace / paths.weights("toy"), workplace / paths.manifest("colours")


def newest_step(folder: Path) -> int:
    return max((int(path.name.split("-")[1]) for path in folder.glob("runs/*/checkpoints/step-*.pt")), default=0)


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGKILL, 1), (signal.SIGTERM, 0)])
def test_killed_and_resumed(
    files: Files,
    tmp_path: Path,
    number: int,
    workers: int,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(job, "evaluate", job.evaluate)  # puts back what `whole_stage` exchanges
    protocol = small(steps=10, lr=[0.1, 0.2], precision="bf16")
    (process,) = finetune_ranks.start("stage", tmp_path / "cut", *files, protocol, workers)
    while newest_step(tmp_path / "cut") < 3 and process.poll() is None:
        time.sleep(0.002)
    os.killpg(process.pid, number)  # the workers too, as a scheduler does
    _, errors = process.communicate(timeout=60)
    stopped_at = newest_step(tmp_path / "cut")
    assert process.returncode and 3 <= stopped_at < 10 and not (tmp_path / "cut" / "out.json").exists(), errors
    if number == signal.SIGTERM:
        assert f"scfs: stopped by SIGTERM at step {stopped_at} of 10; start again to resume there" in errors
        assert "Traceback" not in errors
    for name in ("cut", "whole"):
        (tmp_path / name).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / name)
        finetune_ranks.whole_stage(*files, tmp_path / name / "out.json", protocol, 0)
    assert capfd.readouterr().err.count(f"resuming at step {stopped_at} of 10") == 1
    cut, whole = (torch.load(tmp_path / name / "out.pt") for name in ("cut", "whole"))
    assert all(torch.equal(cut[name], value) for name, value in whole.items())
    assert (tmp_path / "cut" / "out.json").read_bytes() == (tmp_path / "whole" / "out.json").read_bytes()
    assert not list((tmp_path / "cut").glob("runs/*/checkpoints"))


def test_a_training_has_one_process(files: Files, tmp_path: Path) -> None:
    protocol = small(steps=500)
    (process,) = finetune_ranks.start("stage", tmp_path, *files, protocol)
    while newest_step(tmp_path) < 1 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(ScfsError, match="another process is training this run"):
            stage.finetune(protocol, "transfer", "toy", *files, tmp_path / "out.json", threads=1, device="cpu")
    finally:
        process.kill()
        process.communicate()


def test_two_processes_compute_what_one_does(files: Files, tmp_path: Path) -> None:
    """In float64, with uneven shares of the parts; a bias in front of BatchNorm would have no gradient but rounding."""
    protocol = small(batch=10, accumulate=2, steps=4)
    alone = finetune_ranks.steps_in_float64(*files, protocol)
    processes = finetune_ranks.start("steps", tmp_path, *files, protocol, size=2)
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    for rank in range(2):
        found = torch.load(tmp_path / f"rank{rank}.pt")
        for one, other in zip(alone["terms"], found["terms"], strict=True):
            assert other == pytest.approx(one, rel=1e-9)
        for name, value in alone["model"].items():
            assert torch.allclose(found["model"][name].double(), value.double(), rtol=1e-8, atol=1e-10), name


def test_of_two_processes_the_first_writes(files: Files, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    processes = finetune_ranks.start("stage", tmp_path, *files, small(steps=3), size=2)
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    assert "2 processes with up to" in errors[0] and "step 3 of 3" in errors[0] and not errors[1]
    assert set(json.loads((tmp_path / "out.json").read_text())["values"]) == {"top1", "top5", "mean_per_class"}
    assert json.loads((tmp_path / "out.run.json").read_text())["processes"] == 2
    assert len(list(tmp_path.glob("*.pt"))) == 1
    # Finished before: whoever comes next takes the outcome.
    before = (tmp_path / "out.json").read_bytes()
    stage.finetune(small(steps=3), "transfer", "toy", *files, tmp_path / "again.json", threads=1, device="cpu")
    assert (tmp_path / "again.json").read_bytes() == before and "already finished" in capfd.readouterr().err
