"""What may be added can be added from outside the package: a module on PYTHONPATH that SCFS_PLUGINS names.

Each sort of thing has a toy in `PLUGIN`. The commands take it from there as they take our own.
"""

import json
import subprocess
from pathlib import Path

import pytest
import yaml
from repository import ROOT, command_environment

PLUGIN = '''
"""Toys of a laboratory that does not touch scfs."""

from typing import Literal

from scfs.config.protocol import Value, ViewProtocol, evaluation
from scfs.evaluation.result import EvaluationResult, evaluates


@evaluation
class FeatureLength(ViewProtocol):
    """Mean length of the features."""

    kind: Literal["feature_length"]
    factor: float = 2.0
    """Multiplies the length."""

    def values(self):
        return {"length": Value(digits=3, better="less"), "images": Value(digits=0, better=None)}

    def passes(self, images, part=False):
        return [(7 * images(self.test), self.crop)]


@evaluates(FeatureLength)
def feature_length(protocol, encoder):
    from scfs.data.opening import open_split
    from scfs.evaluation.features import FEATURE, clean_view, extract
    from scfs.paths import manifest

    images = open_split(manifest(protocol.dataset), protocol.test)
    features = extract(encoder, images, [FEATURE], clean_view(protocol))[FEATURE]
    length = protocol.factor * float(features.norm(dim=1).mean())
    return EvaluationResult(values={"length": length, "images": float(len(images))}, splits=(images,))
'''

STUDY = {
    "study": "toys",
    "data": {"noise": {"source": "folder", "splits": {"train": "x", "val": "y"}, "images": {"val": 1000}}},
    "pretrain": {"dataset": "noise", "split": "train", "backbone": "narrow_resnet18", "epochs": 0},
    "runs": {f"random-{seed}": {"seed": seed} for seed in range(3)},
    "evaluate": {"length": {"kind": "feature_length", "dataset": "noise", "factor": 0.5}},
    "tables": {
        "main": {
            "title": "Toys",
            "columns": [
                {"label": "length", "evaluation": "length", "value": "length"},
                {"label": "images", "evaluation": "length", "value": "images"},
            ],
            "rows": [
                {"label": "a", "runs": ["random-0", "random-1"]},
                {"label": "b", "runs": ["random-1", "random-2"]},
            ],
        }
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the plugin, the study and the code."""
    folder = tmp_path_factory.mktemp("toys")
    (folder / "toys.py").write_text(PLUGIN)
    (folder / "params.yaml").write_text(yaml.safe_dump(STUDY))
    (folder / "scfs").symlink_to(ROOT / "scfs")
    return folder


@pytest.fixture(scope="module")
def rehearsed(folder: Path) -> Path:
    """The study's rehearsal: its whole graph, run by Snakemake."""
    scfs(folder, "smoke")
    return folder / "smoke" / "toys"


def scfs(folder: Path, *arguments: str, plugins: str = "toys", fails: bool = False) -> str:
    """Output of a command of `scfs`, in a process that has the plugin."""
    environment = command_environment(ROOT) | {"SCFS_PLUGINS": plugins}
    environment["PYTHONPATH"] += f":{folder}"
    ended = subprocess.run(["scfs", *arguments], cwd=folder, env=environment, capture_output=True, text=True)
    assert (ended.returncode != 0) == fails, ended.stderr
    return ended.stdout + ended.stderr


def test_a_rehearsal_evaluates_and_reports(rehearsed: Path) -> None:
    result = json.loads((rehearsed / "results" / "runs" / "random-0" / "length.json").read_text())
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
    lines = scfs(folder, "plan", "--flops-per-second", "1e9").splitlines()
    (line,) = (line for line in lines if line.startswith("evaluate"))
    _, jobs, hours, _ = line.split()
    assert jobs == "3" and 5 < float(hours) < 500  # 7000 images by each of three encoders


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
    assert str(folder / "toys.py") in json.dumps(stages["evaluate-length"])


def test_without_the_plugin_the_kind_is_named(folder: Path) -> None:
    said = scfs(folder, "plan", plugins="", fails=True)
    assert "evaluate.length.kind = 'feature_length': not among" in said
