"""What is said of a pre-training before its job is submitted."""

import subprocess
import sys
from pathlib import Path

import pytest

from scfs.config.pretrain import Pretrain
from scfs.costs.counting import training_work
from scfs.costs.forecast import announce, kept_work
from scfs.errors import ScfsError
from scfs.launch.settings import Launch

SETTINGS = Pretrain(dataset="x", backbone="narrow_resnet18", batch=16)
AGAIN = """
import sys
from scfs.config.pretrain import Pretrain
from scfs.costs.forecast import kept_work
print(kept_work(Pretrain(dataset="x", backbone="narrow_resnet18", batch=16)).states, "torch" in sys.modules)
"""


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_it_is_counted_once_and_then_without_torch() -> None:
    first = kept_work(SETTINGS)
    assert first == training_work(SETTINGS)
    again = subprocess.run([sys.executable, "-c", AGAIN], capture_output=True, text=True, check=True).stdout
    assert again.split() == [str(first.states), "False"]


@pytest.mark.parametrize("broken", ["", "[1, 2]", '{"flops": 1}'])
def test_a_broken_count_is_made_again(broken: str) -> None:
    kept_work(SETTINGS)
    (kept,) = Path("runs/jobs/counts").iterdir()
    kept.write_text(broken)
    assert kept_work(SETTINGS).flops == training_work(SETTINGS).flops
    assert kept_work(SETTINGS).flops == training_work(SETTINGS).flops and kept.read_text() != broken


def test_what_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    hours = announce("one", SETTINGS, 1000, Launch(executor="slurm", nodes=2, gpus_per_node=4))
    rate = 8 * 989e12 * 0.1 / training_work(SETTINGS).flops
    assert hours == pytest.approx(62 * 200 * 16 / rate / 3600)
    said = capsys.readouterr().err
    assert "batch 16 = 8 processes x 2 images" in said and f"200 epochs = {62 * 200} steps" in said
    assert f"about {rate:,.0f} images/s" in said
    with pytest.raises(ScfsError, match="at most 16 processes are allowed"):
        announce("one", SETTINGS, 1000, Launch(executor="slurm", nodes=5, gpus_per_node=4))


def test_a_folder_that_cannot_be_written_keeps_nothing_back(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("runs").write_text("a file")
    assert kept_work(SETTINGS).flops == training_work(SETTINGS).flops
