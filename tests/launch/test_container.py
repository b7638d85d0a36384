"""The image of a launched stage: what is run, and what a user is told. The real thing: tests/containers, tests/slurm."""

import subprocess
from pathlib import Path

import pytest
from repository import ROOT, command_environment

from scfs.errors import ScfsError
from scfs.launch.container import inside
from scfs.launch.settings import Launch


def test_a_program_runs_in_the_image_in_this_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    (tmp_path / "scfs.sif").touch()
    settings = Launch(image=Path("scfs.sif"), image_arguments=["--nv"])
    here = str(tmp_path)
    wanted = ["apptainer", "exec", "--bind", here, "--pwd", here, "--cleanenv", "--nv", f"{here}/scfs.sif", "python"]
    assert inside(settings, ["python"], "--cleanenv") == wanted


def test_apptainer_that_is_missing_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(ScfsError, match=f"image = {tmp_path}: apptainer is not installed on this machine"):
        inside(Launch(image=tmp_path), ["python"])


@pytest.mark.parametrize("epochs", ["1", "0"])
def test_an_image_that_is_missing_is_one_line_and_nothing_is_written(tmp_path: Path, epochs: str) -> None:
    (tmp_path / "photos").mkdir()
    environment = command_environment(ROOT, warm=True) | {"SCFS_LAUNCH_IMAGE": "no-such.sif"}
    command = ["scfs", "pretrain", "photos", "--backbone", "narrow_resnet18", "--epochs", epochs, "--batch", "4"]
    command += ["--set", "optimizer.warmup_epochs=0"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.splitlines()[-1] == "scfs: image = no-such.sif: not found", done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]
