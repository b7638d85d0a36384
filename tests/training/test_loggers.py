"""Loggers: our own go on where a killed process stopped, and one from outside the package gets every point."""

import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from repository import toy_environment
from test_resume import start

from scfs.config.pretrain import Pretrain
from scfs.errors import ScfsError
from scfs.training.loggers import Loggers
from scfs.training.loggers.chosen import JsonLines


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


def test_json_lines_go_on_from_what_a_killed_process_left(tmp_path: Path) -> None:
    file = tmp_path / "scalars.jsonl"
    file.write_text('{"step": 0, "loss": 2.0}\n{"step": 3, "loss": 1.5}\n{"step": 4, "lo')
    with closing(Loggers(tmp_path, 3, ["jsonl"])) as loggers:
        loggers.log(3, {"loss": 1.25})
    assert [json.loads(line) for line in file.open()] == [{"step": 0, "loss": 2.0}, {"step": 3, "loss": 1.25}]


@pytest.mark.parametrize("fails", ["__init__", "log", "close"])
def test_a_chosen_logger_that_fails_is_said_once_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fails: str
) -> None:
    def failing(*_: object) -> None:
        raise ConnectionError("no network\nat all")

    monkeypatch.setattr(JsonLines, fails, failing)
    with closing(Loggers(tmp_path, 0, ["jsonl"])) as loggers:
        for step in range(3):
            loggers.log(step, {"loss": 1.0})
    said = "warning: --log-to jsonl: ConnectionError: no network at all; the training goes on without it\n"
    assert capsys.readouterr().err == said
    assert len((tmp_path / "dvclive/plots/metrics/loss.tsv").read_text().splitlines()) == 4


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_name_that_is_not_known_and_a_package_that_is_missing_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with pytest.raises(ScfsError, match=r"--log-to = 'excel': not among \['jsonl', 'mlflow', 'wandb'\]"):
        Loggers(tmp_path, 0, ["excel"])
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ScfsError, match=f"--log-to {name}: .*: pip install {name}, or log to others"):
        Loggers(tmp_path, 0, [name])


SERVER = """
import sys
from contextlib import closing
from pathlib import Path
from scfs.training.loggers import Loggers
with closing(Loggers(Path(sys.argv[1]), int(sys.argv[3]), [sys.argv[2]])) as loggers:
    for step in range(int(sys.argv[3]), int(sys.argv[3]) + 2):
        loggers.log(step, {"loss": 1.0 + step})
"""


def log_to(name: str, folder: Path, first_step: int, **environment: str) -> str:
    """Log two points in a process of its own; returns its lines. WANDB_API_KEY: no dialogue."""
    quiet = {"HOME": str(folder), "WANDB_API_KEY": "0" * 40, "NO_PROXY": "*"}
    said = subprocess.run([sys.executable, "-c", SERVER, str(folder), name, str(first_step)], text=True, check=True,
                          capture_output=True, env=os.environ | quiet | environment, cwd=folder)  # fmt: skip
    return said.stderr


def test_weights_and_biases_has_one_run_after_a_resume(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    assert [log_to("wandb", tmp_path, step, WANDB_MODE="offline") for step in (0, 2)] == ["", ""]
    names = [path.name for path in (tmp_path / "wandb").glob("offline-run-*")]
    assert len(names) == 2 and {name.split("-")[-1] for name in names} == {(tmp_path / "wandb.id").read_text()}


def test_mlflow_has_one_run_after_a_resume(tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    store = {"MLFLOW_TRACKING_URI": f"file:{tmp_path}/mlruns", "MLFLOW_ALLOW_FILE_STORE": "true"}
    assert "warning: --log-to" not in "".join(log_to("mlflow", tmp_path, step, **store) for step in (0, 2))
    (curve,) = (tmp_path / "mlruns").glob("0/*/metrics/loss")
    assert curve.parts[-3] == (tmp_path / "mlflow.id").read_text()
    assert [line.split()[1:] for line in curve.open()] == [[f"{1.0 + step}", f"{step}"] for step in range(4)]


@pytest.mark.parametrize(("name", "variable"), [("wandb", "WANDB_BASE_URL"), ("mlflow", "MLFLOW_TRACKING_URI")])
def test_without_a_network_there_is_one_line(tmp_path: Path, name: str, variable: str) -> None:
    pytest.importorskip(name)
    errors = log_to(name, tmp_path, 0, **{variable: "http://127.0.0.1:9"})
    assert [line.startswith(f"warning: --log-to {name}: ") for line in errors.splitlines()] == [True], errors
    assert len((tmp_path / "dvclive/plots/metrics/loss.tsv").read_text().splitlines()) == 3
