"""What may be added can be added from outside the package: one study in which nothing but the evaluation k-NN is ours.

Its data source, backbone, method, logger, weight format, another evaluation and figure are the plugins of tests/toys.
"""

import json
import subprocess
from pathlib import Path

import pytest
import yaml
from repository import ROOT, toy_environment, warm_scfs

STUDY = {
    "study": "toys",
    "data": {"noise": {"source": "stripes", "splits": {"train": 1000, "val": 1000}}},
    "pretrain": {
        "dataset": "noise",
        "split": "train",
        "backbone": "toy_net",
        "method": "toy_method",
        "epochs": 2,
        "optimizer": {"warmup_epochs": 0},
    },
    "runs": {
        **{f"toy-{seed}": {"seed": seed} for seed in range(3)},
        "theirs": {"weights": "theirs.pth", "format": "toy", "backbone": "toy_net"},
    },
    "convert": ["toy"],
    "evaluate": {
        "length": {"kind": "feature_length", "dataset": "noise", "factor": 0.5},
        "knn": {"kind": "knn", "dataset": "noise"},
    },
    "tables": {
        "main": {
            "title": "Toys",
            "columns": [
                {"label": "length", "evaluation": "length", "value": "length"},
                {"label": "images", "evaluation": "length", "value": "images"},
            ],
            "rows": [
                {"label": "a", "runs": ["toy-0", "toy-1"]},
                {"label": "b", "runs": ["toy-1", "toy-2"]},
            ],
        },
        "others": {
            "title": "Weights of others",
            "columns": [{"label": "k-NN", "evaluation": "knn", "value": "top1"}],
            "rows": [{"label": "theirs", "runs": ["theirs"]}],
        },
    },
    "figures": {"bars": {"kind": "toy_bars", "evaluation": "knn"}},
}
ALL = ("evaluation", "figure", "source", "weight_format", "backbone_and_method", "logger")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the study and the code."""
    folder = tmp_path_factory.mktemp("toys")
    (folder / "params.yaml").write_text(yaml.safe_dump(STUDY))
    (folder / "theirs.pth").touch()
    (folder / "scfs").symlink_to(ROOT / "scfs")
    return folder


@pytest.fixture(scope="module")
def rehearsed(folder: Path) -> Path:
    """The study's rehearsal: its whole graph, run by Snakemake, whose jobs start at once."""
    run(folder, *warm_scfs("smoke"))
    return folder / "smoke" / "toys"


def scfs(folder: Path, *arguments: str, toys: tuple[str, ...] = ALL, fails: bool = False) -> str:
    return run(folder, "scfs", *arguments, toys=toys, fails=fails)


def run(folder: Path, *command: str, toys: tuple[str, ...] = ALL, fails: bool = False) -> str:
    """Output of a command, in a process that has the plugins."""
    environment = toy_environment(*toys, warm=True)
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert (ended.returncode != 0) == fails, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def test_a_rehearsal_evaluates_and_reports(rehearsed: Path) -> None:
    result = json.loads((rehearsed / "results" / "runs" / "toy-0" / "length.json").read_text())
    assert result["evaluation"] == "feature_length" and result["protocol"]["factor"] == 0.5
    assert result["protocol"]["crop"] == 64  # the rehearsal's
    report = (rehearsed / "results" / "studies" / "toys-smoke" / "report.html").read_text()
    assert "Mean length of the features." in report


def test_less_is_better_and_digits_are_the_kinds(rehearsed: Path) -> None:
    tables = rehearsed / "results" / "studies" / "toys-smoke" / "tables"
    rows = json.loads((tables / "main.json").read_text())["rows"]
    lengths = {row["label"]: row["cells"][0]["mean"] for row in rows}
    assert [row["label"] for row in rows if row["cells"][0]["best"]] == [min(lengths, key=lambda label: lengths[label])]
    assert not any(row["cells"][1]["best"] for row in rows)
    lines = (tables / "main.md").read_text().splitlines()
    assert any(f"{lengths['a']:.3f} ±" in line and "| 8 ± 0 |" in line for line in lines)


def test_the_plan_counts_its_work(folder: Path) -> None:
    lines = scfs(folder, "plan", "--flops-per-second", "1e6").splitlines()
    (line,) = (line for line in lines if line.startswith("evaluate"))
    _, jobs, hours, _ = line.split()
    # 7,000 passes by each of three encoders as the toy says, 2,000 by all four for k-NN; 1.4 million operations each.
    assert jobs == "7" and 11 < float(hours) < 12


def test_the_schema_has_it_and_a_file_is_checked_by_it(folder: Path) -> None:
    schema = json.loads(scfs(folder, "schema"))
    assert schema["$defs"]["FeatureLength"]["properties"]["factor"]["default"] == 2.0
    values = yaml.safe_load((folder / "params.yaml").read_text())
    values["evaluate"]["length"]["faktor"] = 1
    (folder / "wrong.yaml").write_text(yaml.safe_dump(values))
    assert "unknown key 'evaluate.length.faktor'" in scfs(folder, "--params", "wrong.yaml", "plan", fails=True)


def test_its_code_makes_its_results_stale(folder: Path) -> None:
    scfs(folder, "dvc-file")
    stages = yaml.safe_load((folder / "dvc.yaml").read_text())["stages"]
    assert "toys/evaluation.py" in json.dumps(stages["evaluate-length"])


def test_without_the_plugin_the_kind_is_named(folder: Path) -> None:
    said = scfs(folder, "plan", toys=ALL[1:], fails=True)
    assert "evaluate.length.kind = 'feature_length': not among" in said
