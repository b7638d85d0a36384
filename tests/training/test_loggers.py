"""Loggers: our own go on where a killed process stopped, and one from outside the package gets every point."""

from contextlib import closing
from pathlib import Path

import pytest
from repository import toy_environment
from test_resume import start

from scfs.config.pretrain import Pretrain
from scfs.training.loggers import Loggers


def test_a_logger_from_outside_the_package(
    tiny: Pretrain, noise_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCFS_PLUGINS", "toys.logger")
    monkeypatch.setenv("PYTHONPATH", toy_environment()["PYTHONPATH"])
    _, errors = start(tiny, noise_folder, tmp_path).communicate(timeout=120)
    lines = (tmp_path / "run" / "lines.txt").read_text().splitlines()
    assert lines[0] == "from 0" and [line.split()[0] for line in lines[1:]] == ["3", "7", "11"], errors
    ours = (tmp_path / "run" / "dvclive" / "plots" / "metrics" / "loss.tsv").read_text().splitlines()[1:]
    assert [line.split("\t")[1] for line in ours] == [line.split()[1] for line in lines[1:]]


@pytest.mark.parametrize(
    "left", ["", "step", "step\tloss\n", "step\tloss\n0\t1.5\n1\t1.", "step\tloss\n0\t1.5\n1\t1.25\n"]
)
def test_they_go_on_from_what_a_killed_process_left(tmp_path: Path, left: str) -> None:
    file = tmp_path / "dvclive" / "plots" / "metrics" / "loss.tsv"
    file.parent.mkdir(parents=True)
    file.write_text(left)
    with closing(Loggers(tmp_path, 1)) as loggers:
        loggers.log(1, {"loss": 0.5})
    lines = file.read_text().splitlines()
    assert lines[0] == "step\tloss" and lines[-1] == "1\t0.5"
    assert lines[1:-1] == (["0\t1.5"] if "1.5\n" in left else [])
