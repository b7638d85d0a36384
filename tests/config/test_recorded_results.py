"""Results that revision e4cdb33 left, in recorded/: today's package shows them, and would go on where it stopped.

The files are as that revision wrote them, but for the host's name. The arrays of the inspection are left out for their
size; small ones stand in for them here.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from repository import ROOT

from scfs import paths
from scfs.config.base import first_difference
from scfs.config.identity import identity, pretrain_identity
from scfs.config.study import Study, load_study
from scfs.report.page import write_report
from scfs.report.publish import publish
from scfs.report.tables import build_table, render_markdown

RECORDED = Path(__file__).with_name("recorded")


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """The study in a folder that holds its recorded results."""
    shutil.copytree(RECORDED, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    arrays = {}
    for split in ("pretrain", "train", "val"):
        arrays |= {f"{split}/names": np.array(["one"]), f"{split}/image_0": np.full((2, 3, 3), 200, np.uint8)}
    np.savez(paths.inspection("scenes").with_suffix(".npz"), **arrays)
    return load_study(Path("params.yaml"))


def test_the_table_is_what_it_was(study: Study) -> None:
    assert render_markdown(build_table(study, "main")) == (RECORDED / "main.md").read_text()


def test_the_published_table_holds_what_it_held(study: Study) -> None:
    publish(study, ["main"], Path("again"))
    before = RECORDED / "results" / "published" / "recorded"
    assert Path("again/main.md").read_bytes() == (before / "main.md").read_bytes()
    assert_holds(json.loads(Path("again/main.json").read_text()), json.loads((before / "main.json").read_text()))


def assert_holds(found: Any, wanted: Any, place: str = "main.json") -> None:
    """Everything of `wanted` is in `found`, which may have more keys."""
    if isinstance(wanted, dict):
        for key, value in wanted.items():
            assert_holds(found.get(key), value, f"{place}: {key}")
    elif isinstance(wanted, list):
        for one, other in zip(found, wanted, strict=True):
            assert_holds(one, other, place)
    else:
        assert found == wanted, place


def test_there_is_a_report(study: Study) -> None:
    write_report(study, Path("report.html"))
    text = Path("report.html").read_text()
    for run in study.runs:
        assert record(run, "pretrain")["identity"] in text


def test_a_pretraining_would_go_on_in_its_folder(study: Study) -> None:
    for run in study.runs:
        found = record(run, "pretrain")
        parameters = {"settings": study.run(run), "torch_threads": 1, "precision": found["precision"], "device": "cpu"}
        assert found["identity"] == identity("pretrain", parameters, {"dataset": found["dataset"]["digest"]})


def record(run: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(paths.result(run, name).read_text())
    return found


@pytest.mark.parametrize("file", sorted(ROOT.glob("results/published/*/*.json")), ids=lambda file: file.stem)
def test_published_results_are_of_the_studies_as_they_are(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    table = json.loads(file.read_text())
    study = load_study(Path("config", table["study"], "params.yaml"))
    for run, settings in table["settings"].items():
        assert first_difference(settings, study.settings(run), run) is None
        assert table["identities"][run]["config"] == pretrain_identity(study, run)
    for name, protocol in table["protocols"].items():  # older than `lr_sweep`, which they lack
        assert first_difference(protocol, study.evaluate[name], name) is None
