"""An identity moves with everything that a result depends on, and with nothing else."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import recorded_defaults
import recorded_identities
import yaml
from repository import ROOT

from scfs.config import identity
from scfs.config.base import FIRST_FIELDS, Config
from scfs.config.study import Study, load_study, parse_study
from scfs.errors import ScfsError
from scfs.pipeline import jobs

SCENES = {
    "source": "garment-scenes",
    "splits": {"pretrain": {"scenes": 4}, "train": {"scenes": 4}, "val": {"scenes": 4}},
}


def study(**changes: Any) -> Study:
    values: dict[str, Any] = {
        "study": "small",
        "data": {"scenes": SCENES},
        "pretrain": {"dataset": "scenes", "optimizer": {"lr": 0.1, "momentum": 0.9}},
        "runs": {"one": {"seed": 3}},
        "evaluate": {"knn": {"kind": "knn", "dataset": "scenes"}},
    }
    return parse_study(values | changes)


def pretrain(**changes: Any) -> str:
    return identity.pretrain_identity(study(**changes), "one")


def test_key_order_written_defaults_and_where_a_key_stands_do_not_matter() -> None:
    reordered = {"optimizer": {"momentum": 0.9, "lr": 0.1}, "dataset": "scenes"}
    assert pretrain(pretrain=reordered) == pretrain()
    assert pretrain(pretrain={"dataset": "scenes"}) == pretrain()  # both values are the defaults
    assert pretrain(pretrain={"dataset": "scenes"}, runs={"one": {"seed": 3, "optimizer": {"lr": 0.1}}}) == pretrain()


def test_other_runs_names_and_labels_do_not_matter() -> None:
    assert pretrain(runs={"one": {"seed": 3}, "two": {}}, scale="small", study="other") == pretrain()


@pytest.mark.parametrize(
    "changes",
    [
        {"runs": {"one": {"seed": 4}}},
        {"torch_threads": 2},
        {"pretrain": {"dataset": "scenes", "optimizer": {"lr": 0.9, "momentum": 0.1}}},  # values swapped
    ],
)
def test_what_the_weights_depend_on_matters(changes: dict[str, Any]) -> None:
    assert pretrain(**changes) != pretrain()


def test_the_version_of_the_code_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    before = pretrain()
    monkeypatch.setitem(identity.STAGE_VERSIONS, "pretrain", identity.STAGE_VERSIONS["pretrain"] + 1)
    assert pretrain() != before


def test_data_and_protocols_have_identities_of_their_own() -> None:
    other_data = {"data": {"scenes": SCENES | {"seed": 1}}}
    assert identity.prepare_identity(study(**other_data), "scenes") != identity.prepare_identity(study(), "scenes")
    assert pretrain(**other_data) == pretrain()  # the manifest is an input of pretrain: its hash tells
    other_k = {"evaluate": {"knn": {"kind": "knn", "dataset": "scenes", "temperature": 0.1}}}
    assert identity.evaluate_identity(study(**other_k), "knn") != identity.evaluate_identity(study(), "knn")


# --- identities stay what they are ---


def test_no_identity_of_a_study_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert recorded_identities.of_all_studies() == json.loads(recorded_identities.FILE.read_text())


def test_the_first_fields_are_those_of_todays_classes() -> None:
    classes = {found.__name__: found for found in subclasses(Config)}
    for name, fields in FIRST_FIELDS.items():
        assert set(fields) <= classes[name].model_fields.keys(), f"first_fields.json: {name}"


def subclasses(parent: type) -> list[type]:
    return [one for child in parent.__subclasses__() for one in (child, *subclasses(child))]


def test_every_default_is_noted() -> None:
    noted = json.loads(recorded_defaults.FILE.read_text())
    assert recorded_defaults.problems(noted, recorded_defaults.defaults()) == []
    assert noted == recorded_defaults.defaults(), "run make schema"


def test_another_default_needs_another_version() -> None:
    noted = {"pretrain": {"version": 1, "Loss.center_momentum": 0.9, "Loss.gone": 1}}
    now = {"pretrain": {"version": 1, "Loss.center_momentum": 0.8, "Loss.new": 2}}
    line = "Loss.center_momentum: another default: raise STAGE_VERSIONS['pretrain']"
    assert recorded_defaults.problems(noted, now) == [line]
    assert recorded_defaults.problems(noted, {"pretrain": {**now["pretrain"], "version": 2}}) == []
    assert recorded_defaults.problems(noted, {"pretrain": {**now["pretrain"], "Loss.center_momentum": 0.9}}) == []


# --- an identity and the hash of what the file says ---


def leaves(values: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    items = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else None
    if items is None:
        yield path, values
    for key, value in items or ():
        yield from leaves(value, (*path, key))


def other_values(value: Any) -> list[Any]:
    if isinstance(value, bool):
        return [not value]
    return [value * 2, value + 1, value / 2] if isinstance(value, int | float) else []


def test_what_changes_an_identity_makes_the_job_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The identity is of what a study means, the hash of what its file says: the second moves with the first."""
    monkeypatch.chdir(tmp_path)
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    small = {key: values[key] for key in ("study", "torch_threads", "data", "pretrain", "runs", "evaluate")}
    text = json.dumps(small)  # which is YAML too, and read in less time
    found, changed = hashes(text), set()
    for path, value in leaves(small):
        for other in other_values(value):
            try:
                now = hashes(with_value(text, path, other))
            except ScfsError:
                continue  # the study does not allow it
            for job in (job for job in found if now[job][0] != found[job][0]):
                changed.add(job)
                assert now[job][1] != found[job][1], f"{path}: {job}"
            break
    assert changed == found.keys()


def with_value(text: str, path: tuple[Any, ...], value: Any) -> str:
    values = place = json.loads(text)
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return json.dumps(values)


def hashes(text: str) -> dict[str, tuple[str, str]]:
    """The identity and the hash of the parameters of every data set, run and evaluation."""
    Path("params.yaml").write_text(text)
    study = load_study(Path("params.yaml"))
    pairs = {f"data.{name}": (identity.prepare_identity(study, name), "prepare") for name in study.data}
    pairs |= {f"runs.{name}": (identity.pretrain_identity(study, name), "pretrain") for name in study.runs}
    pairs |= {
        f"evaluate.{name}": (identity.evaluate_identity(study, name), protocol.stage)
        for name, protocol in study.evaluate.items()
    }
    return {
        key: (own, jobs.parameters_hash(study, stage, key.partition(".")[2])) for key, (own, stage) in pairs.items()
    }


@pytest.mark.parametrize("stage", ["prepare", "pretrain", "evaluate"])
def test_another_version_of_the_code_changes_both(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    before = hashes_of_version(stage)
    monkeypatch.setitem(identity.STAGE_VERSIONS, stage, 99)
    assert all(old != new for old, new in zip(before, hashes_of_version(stage), strict=True))


def hashes_of_version(stage: str) -> tuple[str, str]:
    demo = load_study(Path("params.yaml"))
    name = {"prepare": "garments", "pretrain": "demo-scfs", "evaluate": "knn"}[stage]
    return identity.identity(stage, {}), jobs.parameters_hash(demo, stage, name)
