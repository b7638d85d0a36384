"""What is said of a pre-training before its job is submitted."""

import subprocess
import sys
from pathlib import Path

import pytest

from scfs.config.pretrain import Pretrain
from scfs.costs.forecast import Counts, Forecast, counts
from scfs.costs.plan import training_bytes, training_flops
from scfs.errors import ScfsError
from scfs.launch.settings import Launch

SETTINGS = Pretrain(dataset="x", backbone="narrow_resnet18", batch=16)
AGAIN = """
import sys
from scfs.config.pretrain import Pretrain
from scfs.launch.forecast import counts
print(counts(Pretrain(dataset="x", backbone="narrow_resnet18", batch=16)).bytes, "torch" in sys.modules)
"""


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_it_is_counted_once_and_then_without_torch() -> None:
    first = counts(SETTINGS)
    assert first == Counts(training_flops(SETTINGS), sum(training_bytes(SETTINGS)))
    again = subprocess.run([sys.executable, "-c", AGAIN], capture_output=True, text=True, check=True).stdout
    assert again.split() == [str(first.bytes), "False"]


@pytest.mark.parametrize("broken", ["", "[1, 2]", '{"flops": 1}'])
def test_a_broken_count_is_made_again(broken: str) -> None:
    counts(SETTINGS)
    (kept,) = Path("runs/jobs/counts").iterdir()
    kept.write_text(broken)
    assert counts(SETTINGS).flops == training_flops(SETTINGS)
    assert counts(SETTINGS).flops == training_flops(SETTINGS) and kept.read_text() != broken


def test_what_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    said = Forecast("one", SETTINGS, 1000, Launch(executor="slurm", nodes=2, gpus_per_node=4)).announced()
    assert said.steps == 62 * 200
    assert said.images_per_second == pytest.approx(8 * 989e12 * 0.1 / training_flops(SETTINGS))
    assert "batch 16 = 8 processes x 2 images" in capsys.readouterr().err
    with pytest.raises(ScfsError, match="at most 16 processes are allowed"):
        Forecast("one", SETTINGS, 1000, Launch(executor="slurm", nodes=5, gpus_per_node=4)).announced()


def test_a_folder_that_cannot_be_written_keeps_nothing_back(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("runs").write_text("a file")
    assert counts(SETTINGS).flops == training_flops(SETTINGS)
