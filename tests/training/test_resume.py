"""Killed at any step and started again, a run ends with the bytes of an uninterrupted one."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from repository import ROOT
from warm import warm_programs

from scfs.config.pretrain import Pretrain
from scfs.data.sources.folders import image_folder
from scfs.errors import ScfsError
from scfs.training.pretrain import Pretraining, pretrain

CHILD = """
import sys
from pathlib import Path
from tiny import shallow_backbones
from scfs.config.pretrain import Pretrain
from scfs.data.sources.folders import image_folder
from scfs.errors import ScfsError
from scfs.training.pretrain import pretrain
shallow_backbones()
settings, images, out = Pretrain.model_validate_json(sys.argv[1]), image_folder(Path(sys.argv[2])), Path(sys.argv[3])
try:
    pretrain("tiny", settings, images, weights=out / "w.safetensors", result=out / "r.json", folder=out / "run",
             device="cpu", workers=int(sys.argv[4]), save_every=0)
except ScfsError as error:
    sys.exit(f"scfs: {error}")
"""
STEPS = 12


def train(settings: Pretrain, images: Path, out: Path) -> None:
    pretrain("tiny", settings, image_folder(images), weights=out / "w.safetensors", result=out / "r.json",
             folder=out / "run", device="cpu", save_every=0)  # fmt: skip


def start(
    settings: Pretrain, images: Path, out: Path, workers: int = 0, limit: int | None = None
) -> subprocess.Popen[str]:
    """Train in a process of its own; `limit` is the largest file that it may write, in bytes.

    With workers it is a real one, whose process group they share.
    """
    python = sys.executable if workers else str(warm_programs() / "warm-python")
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))" if limit else ""
    command = [python, "-c", limited + CHILD, settings.model_dump_json(), str(images), str(out), str(workers)]
    places = [os.environ.get("PYTHONPATH") or str(ROOT), str(Path(__file__).parent)]  # pytest's own may name a plugin's
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(places)}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)


def checkpoints(out: Path) -> list[Path]:
    return sorted((out / "run" / "checkpoints").glob("step-*.pt"))


def newest_step(out: Path) -> int:
    return max((int(path.name.split("-")[1]) for path in checkpoints(out)), default=0)


@pytest.fixture(scope="module")
def reference(tiny: Pretrain, noise_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("reference")
    train(tiny, noise_folder, out)
    return out


def cut_short(whole: Path, out: Path) -> None:
    """Make `out` what a run was before its last step was saved."""
    shutil.copytree(whole / "run", out / "run")
    checkpoints(out)[-1].unlink()


def assert_same_outcome(out: Path, reference: Path) -> None:
    for name in ("w.safetensors", "r.json"):
        assert (out / name).read_bytes() == (reference / name).read_bytes(), name


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGKILL, 0), (signal.SIGTERM, 1)])
def test_killed_and_resumed(
    tiny: Pretrain, noise_folder: Path, tmp_path: Path, reference: Path, number: int, workers: int
) -> None:
    step = random.Random(f"{number} {workers}").randrange(2, STEPS - 2)
    process = start(tiny, noise_folder, tmp_path, workers)
    while newest_step(tmp_path) < step and process.poll() is None:
        time.sleep(0.002)
    os.killpg(process.pid, number)  # the workers too, as a scheduler does
    _, stderr = process.communicate(timeout=60)
    stopped_at = newest_step(tmp_path)
    assert process.returncode != 0, stderr
    assert step <= stopped_at < STEPS
    assert not (tmp_path / "w.safetensors").exists()
    if number == signal.SIGTERM:
        assert f"scfs: stopped by SIGTERM at step {stopped_at} of {STEPS}" in stderr
        assert "Traceback" not in stderr
    train(tiny, noise_folder, tmp_path)
    assert_same_outcome(tmp_path, reference)


def test_finished_run_is_exported_again_without_training(tiny: Pretrain, noise_folder: Path, reference: Path) -> None:
    state = {path: path.stat().st_mtime_ns for path in checkpoints(reference)}
    before = (reference / "w.safetensors").read_bytes()
    (reference / "w.safetensors").unlink()
    train(tiny, noise_folder, reference)
    assert (reference / "w.safetensors").read_bytes() == before
    assert {path: path.stat().st_mtime_ns for path in checkpoints(reference)} == state


def test_two_newest_are_kept_and_a_damaged_one_is_passed_over(
    tiny: Pretrain, noise_folder: Path, tmp_path: Path, reference: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(reference, tmp_path, dirs_exist_ok=True)
    _, newest = checkpoints(tmp_path)
    damaged = bytearray(newest.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    newest.write_bytes(damaged)
    train(tiny, noise_folder, tmp_path)
    assert f"{newest}: damaged" in capfd.readouterr().err
    assert_same_outcome(tmp_path, reference)
    assert len(checkpoints(tmp_path)) == 2  # both sound again: the damaged one does not count
    for path in checkpoints(tmp_path):
        path.write_bytes(b"")
    for _ in range(2):  # a second start does not begin anew behind the user's back
        with pytest.raises(ScfsError, match="all checkpoints are damaged; remove the folder"):
            train(tiny, noise_folder, tmp_path)


def test_what_a_killed_writer_left_is_removed(tiny: Pretrain, noise_folder: Path, reference: Path) -> None:
    debris = reference / "run" / "checkpoints" / ".step-000000005-0123456789abcdef.pt.99999.tmp"
    debris.write_bytes(b"half")
    train(tiny, noise_folder, reference)
    assert not debris.exists()


def test_bf16_and_fp16_resume_exactly(tiny: Pretrain, noise_folder: Path, tmp_path: Path) -> None:
    for precision in ("bf16", "fp16"):
        settings = Pretrain.model_validate(
            tiny.model_dump()
            | {"precision": precision, "views": {"global_size": 48, "local_size": 24, "local_number": 1}}
        )
        whole, cut = tmp_path / precision / "whole", tmp_path / precision / "cut"
        train(settings, noise_folder, whole)
        cut_short(whole, cut)
        train(settings, noise_folder, cut)
        assert_same_outcome(cut, whole)


def test_scalars_of_a_resumed_run_have_each_step_once(
    tiny: Pretrain, noise_folder: Path, tmp_path: Path, reference: Path
) -> None:
    cut_short(reference, tmp_path)
    train(tiny, noise_folder, tmp_path)
    lines = (tmp_path / "run" / "dvclive" / "plots" / "metrics" / "loss.tsv").read_text().splitlines()
    steps = [line.split("\t")[lines[0].split("\t").index("step")] for line in lines[1:]]
    assert steps == sorted(set(steps), key=int) and steps[-1] == str(STEPS - 1)
    for name in ("rank", "feature_deviation", "entropy_of_mean", "gradient_norm"):  # of steps before and after the cut
        whole, cut = (out / "run" / "dvclive" / "plots" / "metrics" / f"{name}.tsv" for out in (reference, tmp_path))
        assert [line.split()[-1] for line in whole.open()] == [line.split()[-1] for line in cut.open()], name


def test_full_disk_while_saving_keeps_what_was_good(
    tiny: Pretrain, noise_folder: Path, tmp_path: Path, reference: Path
) -> None:
    """The kernel refuses the write (a limit on file size stands in for a full disk: the same OSError path)."""
    size = checkpoints(reference)[0].stat().st_size
    process = start(tiny, noise_folder, tmp_path, limit=size // 2)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in stderr
    assert "checkpoint of step 1:" in stderr and "could not be written: File too large" in stderr
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []
    train(tiny, noise_folder, tmp_path)
    assert_same_outcome(tmp_path, reference)


def test_full_disk_for_the_scalars_is_one_line(tiny: Pretrain, noise_folder: Path, tmp_path: Path) -> None:
    process = start(tiny, noise_folder, tmp_path, limit=150)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in stderr
    assert stderr.splitlines()[-1].startswith("scfs: ") and "File too large" in stderr


def test_a_run_folder_that_cannot_be_made_is_one_line(tiny: Pretrain, noise_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(ScfsError, match=r"run/lock: could not be written: File exists"):
        train(tiny, noise_folder, tmp_path)


def test_random_weights_do_not_replace_trained_ones(tiny: Pretrain, noise_folder: Path, reference: Path) -> None:
    before = (reference / "w.safetensors").read_bytes()
    with pytest.raises(ScfsError, match="its checkpoints are of identity"):
        train(Pretrain.model_validate(tiny.model_dump() | {"epochs": 0}), noise_folder, reference)
    assert (reference / "w.safetensors").read_bytes() == before


def test_checkpoints_of_another_run_are_refused(tiny: Pretrain, noise_folder: Path, reference: Path) -> None:
    """The line names what differs, the old value and the new one, and what to do."""
    other = tiny.model_copy(update={"seed": 7, "optimizer": tiny.optimizer.model_copy(update={"lr": 0.125})})
    differing = (
        rf"made with optimizer.lr = {tiny.optimizer.lr} and not 0.125, seed = {tiny.seed} and not 7; give the old"
    )
    with pytest.raises(ScfsError, match=rf"its checkpoints are of identity .*: {differing} values \(--set KEY=VALUE\)"):
        train(other, noise_folder, reference)


def test_checkpoints_from_before_they_named_their_settings_go_on_and_refuse_others(tiny: Pretrain) -> None:
    training = Pretraining(tiny, 4, torch.device("cpu"), "fp32", "mine")
    later = ("made_of", "signs")
    state = {key: value for key, value in training.state().items() if key not in later}
    training.restore(state, Path("run"))
    with pytest.raises(ScfsError, match="made with other settings, data, precision or code version; give the old"):
        training.restore({**state, "identity": "other"}, Path("run"))


def test_run_is_held_by_one_process(tiny: Pretrain, noise_folder: Path, tmp_path: Path) -> None:
    long = tiny.model_copy(update={"epochs": 500})
    process = start(long, noise_folder, tmp_path)
    while newest_step(tmp_path) < 1 and process.poll() is None:
        time.sleep(0.01)
    try:
        with pytest.raises(ScfsError, match="another process is training this run"):
            train(long, noise_folder, tmp_path)
    finally:
        process.kill()
        process.communicate()
