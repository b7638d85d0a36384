"""Real trainings under Snakemake: side by side or one by one, and killed, they give the same weights."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from repository import ROOT, command_environment, copy_folder

from scfs import paths
from scfs.smoke.rehearsal import CODE

pytestmark = pytest.mark.end_to_end

WEIGHTS = [paths.weights(run) for run in ("small-scfs", "small-dino")]
STUDY = {
    "study": "small",
    "data": {"scenes": {"source": "garment-scenes", "splits": {"pretrain": {"scenes": 24}}}},
    "pretrain": {
        "dataset": "scenes",
        "backbone": "narrow_resnet18",
        "epochs": 5,
        "batch": 8,
        "views": {"global_size": 48, "local_size": 24, "local_number": 2},
        "head": {"hidden": 16, "bottleneck": 8, "prototypes": 16, "batch_norm": True},
        "search_head": {"width": 8, "hidden": 16, "output": 8},
        "optimizer": {"warmup_epochs": 1},
    },
    "runs": {"small-scfs": {"method": "scfs"}, "small-dino": {"method": "dino"}},
}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with links to the code, the small study and its data."""
    folder = tmp_path_factory.mktemp("template")
    for name in CODE:
        (folder / name).symlink_to(ROOT / name)
    (folder / "params.yaml").write_text(yaml.safe_dump(STUDY))
    finish(folder, 1, paths.manifest("scenes"))
    return folder


def start(folder: Path, cores: int, *targets: Path, save_every: int = 600, warm: bool = False) -> subprocess.Popen[str]:
    command = ["snakemake", "--cores", str(cores), *map(str, targets)]
    environment = command_environment(ROOT, warm) | {"SCFS_SAVE_EVERY": str(save_every)}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def finish(folder: Path, cores: int, *targets: Path) -> list[bytes]:
    process = start(folder, cores, *targets, warm=True)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return [(folder / target).read_bytes() for target in targets]


@pytest.fixture(scope="module")
def one_by_one(template: Path, tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    return finish(copy_folder(template, tmp_path_factory.mktemp("one") / "by-one"), 1, *WEIGHTS)


def test_side_by_side_gives_the_weights_of_one_by_one(template: Path, one_by_one: list[bytes], tmp_path: Path) -> None:
    assert finish(copy_folder(template, tmp_path / "copy"), 2, *WEIGHTS) == one_by_one
    assert one_by_one[0] != one_by_one[1]


def test_killed_with_snakemake_and_started_again(template: Path, one_by_one: list[bytes], tmp_path: Path) -> None:
    """SIGKILL for Snakemake and all its jobs in the middle of a training: the next start resumes it, not from the start."""
    folder = copy_folder(template, tmp_path / "copy")
    process = start(folder, 2, *WEIGHTS, save_every=0)
    log = folder / "logs" / "pretrain" / "small-scfs.log"
    deadline = time.monotonic() + 120
    while "epoch 1:" not in (log.read_text() if log.exists() else "") and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (folder / WEIGHTS[0]).exists()
    subprocess.run(
        ["snakemake", "--unlock"], cwd=folder, env=command_environment(ROOT, warm=True), check=True, capture_output=True
    )
    assert finish(folder, 2, *WEIGHTS) == one_by_one
    assert re.search(r"resuming at step \d+ of 15", log.read_text())
