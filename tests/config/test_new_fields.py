"""A setting that is added with a default, in each configuration class at once: nothing is repeated, nothing refused.

The package is copied, every class gets a field, and the copy goes on with what the package as it is has left.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import grown_package
import pytest
import recorded_identities
import yaml
from fake_results import FakeResults
from grown_package import copy_package
from repository import ROOT
from tiny import TINY
from warm import warm_programs

from scfs import paths
from scfs.config.base import FIRST_FIELDS
from scfs.config.identity import STAGE_VERSIONS
from scfs.config.study import parse_study
from scfs.errors import ScfsError
from scfs.report.results import read_result

SHOWN = {"Column", "PaperRow"}
"""Classes of a table, which has no identity; its JSON holds them."""
FILE = {"file": "list.txt", "sha256": "0" * 64, "url": "https://example.org"}
EVERY_CLASS: dict[str, Any] = {
    "study": "every-class",
    "data": {
        "folders": {"source": "folder", "splits": {"val": "a", "train": "b"}, "class_list": FILE},
        "table": {"source": "table", "splits": {"val": "a.csv"}},
        "coco": {"source": "coco", "splits": {"val": {"images": "a", "annotations": "a.json"}}},
        "voc": {"source": "voc", "splits": {"val": ["a.txt"]}},
    },
    "pretrain": {"dataset": "folders", "split": "train"},
    "runs": {"others": {"weights": "a/file.pth", "backbone": "resnet50", "format": "timm"}},
    "evaluate": {
        "fine": {"kind": "finetune", "dataset": "folders", "epochs": 1, "labels": FILE},
        "shares": {"kind": "finetune", "dataset": "folders", "epochs": 1, "labels": {"share": 0.1}},
        "classes": {"kind": "class_probabilities", "dataset": "folders"},
    },
}
STUDY: dict[str, Any] = {
    "study": "small",
    "data": {
        "scenes": {
            "source": "garment-scenes",
            "splits": {"pretrain": {"scenes": 24}, "train": {"scenes": 8}, "val": {"scenes": 4, "part": "test"}},
        }
    },
    "pretrain": {**TINY, "dataset": "scenes", "epochs": 1},
    "runs": {"one": {}},
    "evaluate": {"knn": {"kind": "knn", "dataset": "scenes", "resize": 32, "crop": 32, "k": [1], "report_k": 1}},
    "tables": {
        "main": {
            "title": "Main",
            "columns": [{"label": "k-NN", "evaluation": "knn", "value": "top1"}],
            "rows": [{"label": "SCFS", "runs": ["one"]}],
        }
    },
    "figures": {"curves": {"kind": "curves"}},
}
SHOW = ["table main", "figure curves", "publish", "report"]
STAGES = ["prepare scenes", "inspect scenes", "pretrain --run one --workers 0 --save-every 0", "evaluate knn --run one"]


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grown")
    assert set(copy_package(folder, grown=True)) >= FIRST_FIELDS.keys()
    return folder


def run(package: Path, what: str, argument: Any, folder: Path) -> Any:
    places = [package, ROOT / "tests" / "config", ROOT / "tests"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places)), "OMP_NUM_THREADS": "1"}
    command = [str(warm_programs() / "warm-python"), grown_package.__file__, what, json.dumps(argument)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# --- identities and both graphs ---


@pytest.fixture(scope="module")
def found(grown: Path) -> dict[str, Any]:
    identities: dict[str, Any] = run(grown, "identities", EVERY_CLASS, grown)
    return identities


def test_identities_and_what_makes_jobs_stale_stay(found: dict[str, Any]) -> None:
    assert found["identities"] == json.loads(recorded_identities.FILE.read_text())


def test_the_files_of_dvc_stay(found: dict[str, Any]) -> None:
    assert found["dvc"].keys() == {str(Path(file).parent) for file in recorded_identities.STUDIES}
    for folder, text in found["dvc"].items():
        assert text == (ROOT / folder / "dvc.yaml").read_text()


@pytest.mark.parametrize("name", sorted(FIRST_FIELDS.keys() - SHOWN))
def test_another_value_of_the_new_field_is_another_identity(found: dict[str, Any], name: str) -> None:
    assert found["moved"][name]


# --- stages, resume, tables, the report, published results ---


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small study that the package as it is has finished."""
    package, folder = tmp_path_factory.mktemp("package"), tmp_path_factory.mktemp("study")
    copy_package(package, grown=False)
    (folder / "params.yaml").write_text(yaml.safe_dump(STUDY))
    assert run(package, "commands", [*STAGES, *SHOW], folder) == [None] * len([*STAGES, *SHOW])
    return folder


def contents(folder: Path, *parts: str) -> dict[str, bytes]:
    """Every file below these folders, but for what is true of one execution."""
    files = [path for part in parts for path in (folder / part).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if not path.name.endswith(".run.json")}


def test_the_new_package_shows_the_old_results(grown: Path, finished: Path) -> None:
    report = str(paths.report("small"))
    before = contents(finished, "results")
    assert run(grown, "commands", SHOW, finished) == [None] * len(SHOW)
    after = contents(finished, "results")
    assert b"loss.new_in_Loss" in after.pop(report) and before.pop(report)
    assert after == before


def test_the_new_package_goes_on_where_the_old_one_was(grown: Path, finished: Path) -> None:
    made = ("data", "weights", "results/runs")
    before, (state,) = contents(finished, *made), (finished / "runs").glob("one-*")
    *_, newest = sorted((state / "checkpoints").glob("step-*"))
    newest.unlink()  # so that there is a step to repeat
    (finished / paths.weights("one")).unlink()
    assert run(grown, "commands", STAGES, finished) == [None] * len(STAGES)
    assert list((finished / "runs").glob("one-*")) == [state]
    assert contents(finished, *made) == before


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"pretrain": {**STUDY["pretrain"], "loss": {**TINY["loss"], "new_in_Loss": 1}}},
            "results/runs/one/pretrain.json: made with loss.new_in_Loss = 0, but the study's run one has 1: run the"
            " stage pretrain of this run again",
        ),
        (
            {"evaluate": {"knn": {**STUDY["evaluate"]["knn"], "new_in_Protocol": 1}}},
            "results/runs/one/knn.json: made with new_in_Protocol = 0, but the study's evaluate.knn has 1: run the stage knn"
            " of this run again",
        ),
    ],
)
def test_results_without_the_new_value_are_refused(
    grown: Path, finished: Path, tmp_path: Path, changes: dict[str, Any], line: str
) -> None:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({**STUDY, **changes}))
    (tmp_path / "results").symlink_to(finished / "results")
    assert run(grown, "commands", ["table main"], tmp_path) == [line]


# --- records of another version ---


def test_a_setting_that_this_version_does_not_know_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fake = FakeResults(parse_study(STUDY))
    fake.write("one", {"knn": {"top1": 50.0}})
    for name, key, line in (
        (
            "knn",
            "protocol",
            "protocol: unknown key 'new': not the protocol of the study's evaluate.knn: run the stage knn",
        ),
        ("pretrain", "settings", "settings: unknown key 'new': not the settings of the study's run one: run the stage"),
    ):
        path = paths.result("one", name)
        record = json.loads(path.read_text())
        path.write_text(json.dumps({**record, key: {**record[key], "new": 1}}))
        with pytest.raises(ScfsError, match=f"{path}: {line}"):
            read_result(fake.study, "one", name)


def test_a_result_of_another_version_of_the_stage_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fake = FakeResults(parse_study(STUDY))
    fake.write("one", {"knn": {"top1": 50.0}})
    monkeypatch.setitem(STAGE_VERSIONS, "evaluate", 2)
    line = (
        "knn.json: made by version 1 of the stage evaluate, whose version is 2 now: run the stage knn of this run again"
    )
    with pytest.raises(ScfsError, match=line):
        read_result(fake.study, "one", "knn")
