"""The executor local: several processes of this machine, which end with their launcher and resume exactly."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from repository import ROOT, command_environment
from safetensors.numpy import load_file
from warm import warm_programs

pytestmark = pytest.mark.end_to_end

SMALL = [
    "--method",
    "dino",
    "--backbone",
    "narrow_resnet18",
    "--epochs",
    "14",
    "--batch",
    "4",
    "--threads",
    "1",
    "--workers",
    "0",
]
SMALL += ["--set", "views={global_size: 32, local_number: 0}", "--set", "optimizer.warmup_epochs=0"]
SMALL += ["--set", "head={hidden: 8, bottleneck: 8, prototypes: 8}", "--set", "precision=fp32"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for index in range(8):
        pixels = generator.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{index}.png")
    return tmp_path


def start(folder: Path, out: str) -> subprocess.Popen[str]:
    """Start a local job whose launcher and processes start at once."""
    warm = str(warm_programs() / "warm-python")
    python = folder / "python"  # Submitit's controller is a real one: it is known by the number of its process
    python.write_text(
        f'#!/bin/sh\n[ "$3" = submitit.core._submit ] && exec {warm} "$@"\nexec {shlex.quote(sys.executable)} "$@"\n'
    )
    python.chmod(0o755)
    launch = {"SCFS_LAUNCH_EXECUTOR": "local", "SCFS_LAUNCH_PROCESSES_PER_NODE": "2", "SCFS_SAVE_EVERY": "0"}
    command = ["scfs", "pretrain", "photos", "--out", out, *SMALL]
    program = f"import sys; sys.executable = {str(python)!r}; sys.argv = {command!r}; import scfs.cli; scfs.cli.main()"
    return subprocess.Popen(
        [warm, "-c", program],
        cwd=folder, env=command_environment(ROOT) | launch, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def ranks(folder: Path) -> list[int]:
    """Processes of a local job with this working folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            mine = (process / "cwd").resolve() == folder and b"submitit.core._submit" in (
                process / "cmdline"
            ).read_bytes()
        except OSError:
            continue
        if mine:
            found.append(int(process.name))
    return found


def wait_until(ready: object, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not ready():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.02)


def test_processes_end_with_their_launcher_and_the_next_one_resumes(photos: Path) -> None:
    whole = start(photos, "whole")
    said = whole.communicate(timeout=120)[1]
    assert whole.returncode == 0 and "2 processes with up to 2 images of each batch" in said, said
    killed = start(photos, "parts")
    wait_until(lambda: len(list((photos / "parts/state/checkpoints").glob("step-*.pt"))) == 2)
    assert len(ranks(photos)) == 2
    killed.kill()
    killed.communicate()
    wait_until(lambda: not ranks(photos))
    stopped = start(photos, "parts")
    assert stopped.stderr is not None
    said = ""
    while "resuming at step" not in said:
        line = stopped.stderr.readline()
        assert line, said
        said += line
    os.kill(stopped.pid, signal.SIGTERM)
    said = stopped.communicate(timeout=120)[1]
    assert stopped.returncode == 1 and "SIGTERM: the processes have ended; start again to resume" in said, said
    assert not ranks(photos)
    again = start(photos, "parts")
    said = again.communicate(timeout=120)[1]
    assert again.returncode == 0 and "resuming at step" in said, said
    files = [load_file(photos / out / "weights.safetensors") for out in ("whole", "parts")]
    assert files[0].keys() == files[1].keys()
    assert all((files[0][name] == files[1][name]).all() for name in files[0])
