"""The command line: wiring of every stage, messages, exit codes; the work itself is tested with the modules that do it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from scfs import __version__
from scfs.cli.app import main
from scfs.config.backbones import BACKBONES
from scfs.config.base import parse_overrides
from scfs.config.methods import METHODS
from scfs.errors import ScfsError
from scfs.io import progress
from scfs.io.locks import run_lock
from scfs.runtime.cpu import usable_cores

STUDY: dict[str, Any] = {
    "study": "small",
    "data": {
        "scenes": {
            "source": "garment-scenes",
            "splits": {"pretrain": {"scenes": 4}, "train": {"scenes": 24}, "val": {"scenes": 12, "part": "test"}},
        }
    },
    "pretrain": {"dataset": "scenes", "backbone": "narrow_resnet18", "head": {"prototypes": 8}, "epochs": 0},
    "runs": {"small-random": {}},
    "evaluate": {"knn": {"kind": "knn", "dataset": "scenes", "resize": 32, "crop": 32, "k": [3], "report_k": 3}},
    "tables": {
        "main": {
            "title": "A small table",
            "columns": [{"label": "k-NN", "evaluation": "knn", "value": "top1"}],
            "rows": [{"label": "Random weights", "runs": ["small-random"]}],
        }
    },
}
SMALL = ["--backbone", "narrow_resnet18", "--epochs", "1", "--batch", "4", "--threads", "1", "--workers", "0"]
SMALL += ["--set", "views={global_size: 32, local_size: 32, local_number: 1}", "--set", "optimizer.warmup_epochs=0"]
SMALL += ["--set", "head={hidden: 8, bottleneck: 8, prototypes: 8}"]
SMALL += ["--set", "search_head={width: 8, hidden: 8, output: 8}"]

Scfs = Callable[..., int]


@pytest.fixture
def scfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scfs:
    """Run a command in a folder of its own, which has a small study; returns the exit code."""
    monkeypatch.chdir(tmp_path)
    for variable in ("OMP_NUM_THREADS", "DVC_NO_ANALYTICS", "ITERATIVE_DO_NOT_TRACK"):  # restored after the test
        monkeypatch.setenv(variable, "1")
    monkeypatch.setattr(progress, "_log_files", [])
    monkeypatch.setattr(progress, "_prefix", "")
    Path("params.yaml").write_text(yaml.safe_dump(STUDY))

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["scfs", *arguments])
        with pytest.raises(SystemExit) as exit_:
            main()
        return exit_.value.code or 0  # type: ignore[return-value]

    return run


def write_images(folder: Path, number: int) -> None:
    folder.mkdir()
    generator = np.random.default_rng(0)
    for index in range(number):
        Image.fromarray(generator.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(folder / f"{index}.png")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from scfs.cli import app; app(['--help'], standalone_mode=False);"
        "print('heavy:', sorted({'torch', 'pydantic', 'numpy', 'yaml', 'snakemake', 'dvc'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "pretrain" in said and "evaluate" in said
    assert "heavy: []" in said


def test_version(scfs: Scfs, capsys: pytest.CaptureFixture[str]) -> None:
    assert scfs("--version") == 0
    assert capsys.readouterr().out == f"scfs {__version__}\n"


def test_every_stage_of_a_study(scfs: Scfs, capsys: pytest.CaptureFixture[str]) -> None:
    assert scfs("prepare", "scenes") == 0
    assert scfs("inspect", "scenes") == 0
    assert scfs("pretrain", "--run", "small-random") == 0
    assert scfs("evaluate", "knn", "--run", "small-random", "--workers", "0") == 0
    top1 = json.loads(Path("results/runs/small-random/knn.json").read_text())["values"]["top1"]
    assert scfs("table", "main") == 0
    table = json.loads(Path("results/studies/small/tables/main.json").read_text())
    assert table["rows"][0]["cells"][0]["mean"] == top1
    assert scfs("report") == 0
    assert '<section id="data">' in Path("results/studies/small/report.html").read_text()
    capsys.readouterr()
    assert scfs("summary") == 0
    said = capsys.readouterr().out
    assert "A small table" in said and f"{top1:.1f}" in said and "results/studies/small/report.html" in said
    for file in (
        "data/scenes/manifest.parquet",
        "checkpoints/small-random.safetensors",
        "results/studies/small/report.html",
    ):
        assert Path(file).stat().st_size > 0


def test_another_study(scfs: Scfs) -> None:
    Path("params.yaml").rename("other.yaml")
    assert scfs("--params", "other.yaml", "prepare", "scenes") == 0
    assert Path("data/scenes/manifest.parquet").exists()


def test_pretraining_on_a_folder(scfs: Scfs, tmp_path: Path) -> None:
    Path("params.yaml").unlink()  # no study needed
    write_images(tmp_path / "photographs", 8)
    assert scfs("pretrain", "photographs", *SMALL, "--method", "dino", "--set", "optimizer.lr=0.3") == 0
    record = json.loads(Path("runs/photographs/pretrain.json").read_text())
    assert record["settings"]["method"] == "dino" and record["settings"]["optimizer"]["lr"] == 0.3
    assert record["settings"]["batch"] == 4 and record["curve"]["step"] == [2]
    assert Path("runs/photographs/weights.safetensors").exists()
    before = Path("runs/photographs/weights.safetensors").read_bytes()
    assert scfs("pretrain", "photographs", *SMALL, "--method", "dino", "--set", "optimizer.lr=0.3") == 0
    assert Path("runs/photographs/weights.safetensors").read_bytes() == before


def test_other_settings_do_not_mix_with_a_folders_earlier_state(
    scfs: Scfs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "photographs", 8)
    assert scfs("pretrain", "photographs", "--out", "out", *SMALL) == 0
    assert "chosen: views.global_scale=[0.3, 1.0], views.local_scale=[0.08, 0.3] (" in capsys.readouterr().err
    before = Path("out/weights.safetensors").read_bytes()
    assert scfs("pretrain", "photographs", "--out", "out", *SMALL, "--set", "seed=1") == 1
    assert "identity" in capsys.readouterr().err
    assert Path("out/weights.safetensors").read_bytes() == before


def test_a_training_goes_on_from_the_weights_of_another(
    scfs: Scfs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "photographs", 8)
    first = ["pretrain", "photographs", *SMALL, "--recipe", "paper"]
    assert scfs(*first) == 0
    rest = list(first)  # without what the weights say of themselves
    for option, value in (
        ("--backbone", "narrow_resnet18"),
        ("--set", "head={hidden: 8, bottleneck: 8, prototypes: 8}"),
    ):
        place = rest.index(value)
        assert rest[place - 1] == option
        del rest[place - 1 : place + 1]
    again = [*rest, "--init", "runs/photographs/weights.safetensors", "--out", "more"]
    capsys.readouterr()
    assert scfs(*again, "--set", "optimizer.min_lr=0.001") == 0
    said = capsys.readouterr().err
    assert "init: optimizer.lr 0.01, optimizer.freeze_backbone 0: a tenth of the rates" in said
    assert (
        "photographs: starts from runs/photographs/weights.safetensors, which scfs trained as photographs; heads too"
        in said
    )
    record = json.loads(Path("more/pretrain.json").read_text())
    assert record["settings"]["optimizer"]["lr"] == 0.01 and record["settings"]["optimizer"]["min_lr"] == 0.001
    assert record["init"]["run"] == "photographs" and record["settings"]["head"]["prototypes"] == 8
    assert "init: method=scfs, backbone=narrow_resnet18, " in said
    assert scfs(*again, "--set", "optimizer.min_lr=0.001") == 0
    line = "nothing is left to train; for more epochs start another one from it (--init more/weights.safetensors"
    assert line in capsys.readouterr().err
    assert scfs("pretrain", "photographs", *SMALL, "--init", "no-such-weights") == 1
    assert "no weights 'no-such-weights': not among" in capsys.readouterr().err
    assert scfs("pretrain", "photographs", *SMALL, "--init", "none.pth") == 1
    assert "scfs: none.pth: no such weights file" in capsys.readouterr().err


def test_help_lists_every_network_and_method_and_fits_its_lines(
    scfs: Scfs, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for command in ([], ["data"]):
        assert scfs(*command, "--help") == 0
        listed = capsys.readouterr().out.partition("Commands:")[2]
        assert "  pretrain " in listed or "  verify " in listed
        assert "..." not in listed  # no description is cut
    assert scfs("pretrain", "--help") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f" FOLDER: {', '.join(METHODS)}." in said and f" FOLDER: {', '.join(BACKBONES)}." in said
    assert all(name in said for name in ("--color", "--batch-size", "--size", "--local-size", "--local-crops"))
    assert scfs("--show-completion", "bash") == 0
    assert "_SCFS_COMPLETE=complete_bash" in capsys.readouterr().out


def test_completion_is_installed_and_completes(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    subprocess.run([sys.executable, "-m", "scfs", "--install-completion", "bash"], env=environment, check=True)
    assert (tmp_path / ".bash_completions").is_dir() and ".bash_completions" in (tmp_path / ".bashrc").read_text()


def test_options_by_the_names_that_people_try(scfs: Scfs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_images(tmp_path / "one", 4)
    write_images(tmp_path / "two", 4)
    Path("more.txt").write_text("two\n")
    small = [*SMALL[: SMALL.index("--batch")], "--threads", "1", "--workers", "0", *SMALL[SMALL.index("--set") + 2 :]]
    names = ["--batch-size", "4", "--size", "32", "--local-size", "16", "--local-crops", "1", "--color", "cpu"]
    assert scfs("pretrain", "one", "more.txt", *small, *names, "--views", "aerial", "--method", "dino") == 0
    record = json.loads(Path("runs/one-more/pretrain.json").read_text())
    views = record["settings"]["views"]
    assert (views["global_size"], views["local_size"], views["local_number"], views["rotate90"]) == (32, 16, 1, 0.5)
    assert record["settings"]["batch"] == 4 and record["dataset"]["images"] == 8
    assert "views.rotate90=0.5" in (said := capsys.readouterr().err) and "no direction is up" in said
    assert scfs("pretrain", "one", *small, "--size", "32", "--local-size", "40") == 1
    assert "views.local_size must not exceed views.global_size (32)" in capsys.readouterr().err


def test_a_folder_without_a_name_of_its_own_is_called_by_the_one_above(scfs: Scfs, tmp_path: Path) -> None:
    (tmp_path / "birds").mkdir()
    write_images(tmp_path / "birds" / "train", 8)
    assert scfs("pretrain", "birds/train", *SMALL, "--method", "dino") == 0
    record = json.loads(Path("runs/birds-train/pretrain.json").read_text())
    assert (record["run"], record["settings"]["dataset"]) == ("train", "train")  # as before: the identity stays
    assert not Path("runs/train").exists()
    Path("runs/birds-train").rename("runs/train")  # as it was called before
    assert scfs("pretrain", "birds/train", *SMALL, "--method", "dino") == 0
    assert not Path("runs/birds-train").exists()


def test_a_second_user_of_a_run_folder_is_told_who_the_first_is(tmp_path: Path) -> None:
    with run_lock(tmp_path), pytest.raises(ScfsError, match=f"this run: process {os.getpid()} of .+ on .+"):
        run_lock(tmp_path).__enter__()
    (tmp_path / "lock").write_bytes(b"\xff")  # of an older or another program
    with run_lock(tmp_path):
        pass


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["prepare", "scene"], "params.yaml: data set 'scene': not among ['scenes']"),
        (["pretrain", "--run", "random"], "params.yaml: run = 'random': not among ['small-random']"),
        (["evaluate", "linear", "--run", "small-random"], "params.yaml: evaluation 'linear': not among ['knn']"),
        (["evaluate", "knn", "--run", "random"], "params.yaml: run 'random': not among ['small-random']"),
        (["table", "second"], "params.yaml: table 'second': not among ['main']"),
        (["--params", "none.yaml", "report"], "none.yaml: cannot be read: No such file or directory"),
        (["pretrain"], "pretrain: give either a FOLDER of images or --run RUN"),
        (["pretrain", "folder", "--run", "small-random"], "pretrain: give either a FOLDER of images or --run RUN"),
        (
            ["pretrain", "--run", "small-random", "--epochs", "3"],
            "pretrain --run small-random: its settings stand in params.yaml; options for a FOLDER do not apply",
        ),
        (["pretrain", "folder", "--set", "optimizer.lrr=1"], "pretrain: unknown key 'optimizer.lrr'"),
        (["pretrain", "folder", "--batch", "0"], "pretrain: batch = 0: Input should be greater than or equal to 1"),
        (["pretrain", "folder", "--damaged", "2"], "pretrain: damaged = 2.0: Input should be less than or equal to 1"),
        (
            ["pretrain", "folder", "--max-pixels", "0"],
            "pretrain: max_pixels = 0: Input should be greater than or equal to 1",
        ),
        (["pretrain", "folder"], "folder: no such folder"),
        (
            ["pretrain", "folder", "--probe", "other", "--probe-holdout"],
            "pretrain: --probe-holdout is for a FOLDER that",
        ),
        (["pretrain", "folder", "--epochs", "many"], "pretrain: epochs = 'many': Input should be a valid integer"),
        (["--log", "params.yaml/x.log", "report"], "params.yaml/x.log: could not be written: "),
    ],
)
def test_a_mistake_is_one_line(scfs: Scfs, capsys: pytest.CaptureFixture[str], arguments: list[str], line: str) -> None:
    assert scfs(*arguments) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"scfs: {line}") and said.count("\n") == 1


def test_an_unreadable_image_stops_or_is_left_out(
    scfs: Scfs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "photographs", 5)
    truncated = tmp_path / "photographs" / "3.png"
    truncated.write_bytes(truncated.read_bytes()[:200])
    assert scfs("pretrain", "photographs", *SMALL) == 1
    assert "1 of 5 images cannot be decoded, the first is 3.png" in capsys.readouterr().err
    assert scfs("pretrain", "photographs", *SMALL, "--unreadable", "error") == 1
    assert scfs("pretrain", "photographs", *SMALL, "--unreadable", "skip") == 0
    assert "3.png" in capsys.readouterr().err
    assert json.loads(Path("runs/photographs/pretrain.json").read_text())["dataset"]["images"] == 4
    assert scfs("pretrain", "--run", "small-random", "--unreadable", "skip") == 1
    assert "options for a FOLDER do not apply" in capsys.readouterr().err


def test_the_papers_rows_are_looked_up_before_anything_is_computed(
    scfs: Scfs, capsys: pytest.CaptureFixture[str]
) -> None:
    (row,) = STUDY["tables"]["main"]["rows"]
    tables = {"main": {**STUDY["tables"]["main"], "rows": [{**row, "paper": {"table": "table7", "row": "SCFSS"}}]}}
    Path("params.yaml").write_text(yaml.safe_dump({**STUDY, "tables": tables}))
    assert scfs("prepare", "scenes") == 1
    said = capsys.readouterr().err
    assert said.startswith("scfs: params.yaml: tables.main: ") and "row 'SCFSS': not among ['DINO w/o MC'" in said
    assert said.count("\n") == 1 and not Path("data").exists()


def test_fewer_images_than_a_batch(scfs: Scfs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_images(tmp_path / "photographs", 3)
    assert scfs("pretrain", "photographs", *SMALL) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("scfs: ") and "photographs" in said and "3" in said and "4" in said


def test_the_log_file_gets_what_the_terminal_gets(scfs: Scfs, capsys: pytest.CaptureFixture[str]) -> None:
    assert scfs("--log", "logs/some/name.log", "table", "second") == 1
    lines = Path("logs/some/name.log").read_text().splitlines()
    assert lines[0].endswith("scfs --log logs/some/name.log table second")
    assert lines[1:] == ["scfs: params.yaml: table 'second': not among ['main']"]
    assert capsys.readouterr().err.splitlines() == [f"[name] {line}" for line in lines]


def test_a_defect_shows_its_traceback_there_and_in_the_log(
    scfs: Scfs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("scfs.config.study.load_study", lambda path: 1 / 0)
    assert scfs("--log", "name.log", "report") == 1
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert "ZeroDivisionError" in Path("name.log").read_text()


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (PermissionError(13, "Permission denied", "runs/x/state.pt"), "runs/x/state.pt: Permission denied"),
        (OSError(28, "No space left on device", Path("a.json")), "a.json: No space left on device"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (OSError("cannot send"), "cannot send"),
    ],
)
def test_trouble_with_a_file_is_one_line(
    scfs: Scfs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: OSError, line: str
) -> None:
    def failing(path: Path) -> None:
        raise error

    monkeypatch.setattr("scfs.config.study.load_study", failing)
    assert scfs("report") == 1
    assert capsys.readouterr().err == f"scfs: {line}\n"


def test_a_full_disk_under_the_log_file_leaves_the_message(scfs: Scfs) -> None:
    command = [sys.executable, "-m", "scfs", "--log", "/dev/full", "table", "second"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 2
    assert done.stderr.endswith("[full] scfs: params.yaml: table 'second': not among ['main']\n")


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("max 100000\n", 16),
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("20000 100000\n", 1),
        ("9900000 100000\n", 16),
        ("nonsense", 16),
        (None, 16),
    ],
)
def test_cores_honour_a_containers_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str | None, cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)))
    if quota is not None:
        (tmp_path / "cpu.max").write_text(quota)
    assert usable_cores(tmp_path / "cpu.max") == cores


def test_an_interruption_shows_no_traceback(
    scfs: Scfs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("scfs.config.study.load_study", interrupted)
    assert scfs("report") == 130
    assert "Traceback" not in capsys.readouterr().err


def test_weights_of_others_go_in_and_out(scfs: Scfs, capsys: pytest.CaptureFixture[str]) -> None:
    import torch
    import torchvision
    from safetensors.torch import load_file

    state = torchvision.models.resnet18().state_dict()
    torch.save(state, "theirs.pth")
    given = ["--format", "torchvision", "--backbone", "resnet18"]
    assert scfs("import-weights", "theirs.pth", *given, "--out", "ours.safetensors") == 0
    assert scfs("export", "ours.safetensors", "--format", "timm", "--out", "out.safetensors") == 0
    back = load_file("out.safetensors")
    assert back.keys() == state.keys() and all(torch.equal(back[key], state[key]) for key in state)
    capsys.readouterr()
    assert scfs("import-weights", "theirs.pth", *given) == 1
    assert "import-weights FILE: give --format, --backbone and --out" in capsys.readouterr().err
    assert scfs("import-weights") == 1 and "either a FILE or --run RUN" in capsys.readouterr().err
    assert scfs("import-weights", "--run", "small-random") == 1
    assert "params.yaml: runs.small-random: has no weights of others" in capsys.readouterr().err
    wrong = ["--format", "torchvision", "--backbone", "resnet34", "--out", "wrong.safetensors"]
    assert scfs("import-weights", "theirs.pth", *wrong) == 1
    assert "its keys are those of resnet18" in capsys.readouterr().err and not Path("wrong.safetensors").exists()
    # A run of a study, by the stages' own names of files.
    them = {"weights": "./theirs.pth", "backbone": "resnet18", "format": "torchvision"}
    Path("params.yaml").write_text(yaml.safe_dump({**STUDY, "runs": {**STUDY["runs"], "them": them}}))
    assert scfs("import-weights", "--run", "them") == 0
    assert scfs("convert", "--run", "them", "--to", "torchvision") == 0
    assert json.loads(Path("results/runs/them/pretrain.json").read_text())["source"]["file"] == "theirs.pth"
    assert load_file("weights/them/torchvision.safetensors").keys() == state.keys()
    assert scfs("convert", "--run", "them", "--to", "detectron2") == 0
    exported = ["--format", "detectron2", "--out", "out.pkl"]
    assert scfs("export", "checkpoints/them.safetensors", *exported) == 0
    assert Path("weights/them/detectron2.pkl").read_bytes() == Path("out.pkl").read_bytes()


def test_threads_are_fixed_before_torch_is_imported(scfs: Scfs) -> None:
    Path("params.yaml").write_text(yaml.safe_dump({**STUDY, "torch_threads": 3}))
    code = (
        "import os, sys, scfs.config.study as study; from scfs.cli import app; load = study.load_study\n"
        "study.load_study = lambda path: (print('torch' in sys.modules), load(path))[1]\n"
        "try: app(['table', 'main'], standalone_mode=False)\n"
        "except Exception: print(os.environ['OMP_NUM_THREADS'])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["False", "3"]


def test_overrides_are_yaml_and_the_last_one_wins() -> None:
    pairs = ["optimizer.lr=0.2", "optimizer.clip=0", "layers=[layer2, layer3]", "optimizer.lr=1e-1", "method=dino"]
    expected = {"optimizer": {"lr": "1e-1", "clip": 0}, "layers": ["layer2", "layer3"], "method": "dino"}
    assert parse_overrides(pairs) == expected


@pytest.mark.parametrize("pair", ["optimizer.lr", "=3", "layers=[layer2"])
def test_an_override_of_the_wrong_form_is_named(pair: str) -> None:
    with pytest.raises(ScfsError, match="--set"):
        parse_overrides([pair])
