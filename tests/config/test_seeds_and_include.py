"""One entry for all seeds, and studies that refer to each other's runs."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from scfs.config.study import Study, load_study, parse_study
from scfs.errors import ScfsError
from scfs.pipeline import jobs

STUDY: dict[str, Any] = {
    "study": "first",
    "seeds": [0, 5],
    "data": {"photos": {"source": "folder", "splits": {"pretrain": "a", "train": "b", "val": "c"}}},
    "pretrain": {"dataset": "photos", "epochs": 20},
    "runs": {"scfs": {}, "dino": {"method": "dino"}, "fixed": {"seed": 7}},
    "evaluate": {"knn": {"kind": "knn", "dataset": "photos"}},
    "tables": {
        "main": {
            "title": "t",
            "columns": [{"label": "k-NN", "evaluation": "knn", "value": "top1"}],
            "rows": [{"label": "SCFS", "runs": ["scfs"]}, {"label": "fixed", "runs": ["fixed"]}],
        }
    },
    "figures": {"curves": {"kind": "curves", "runs": ["dino"]}},
}
SECOND: dict[str, Any] = {
    "study": "second",
    "include": ["first.yaml"],
    "pretrain": {"dataset": "photos", "epochs": 30},
    "runs": {"long": {}},
    "tables": {
        "main": {**STUDY["tables"]["main"], "rows": [{"label": "both", "runs": ["scfs-s5", "long"]}]},
    },
}


def changed(**values: Any) -> dict[str, Any]:
    return copy.deepcopy(STUDY) | values


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write("first.yaml", STUDY)
    write("second.yaml", SECOND)
    return tmp_path


def write(file: str, values: dict[str, Any]) -> None:
    Path(file).write_text(yaml.safe_dump(values, sort_keys=False))


def test_a_run_becomes_one_for_each_seed_wherever_it_is_named() -> None:
    study = parse_study(STUDY)
    assert list(study.runs) == ["scfs-s0", "scfs-s5", "dino-s0", "dino-s5", "fixed"]
    assert [study.run(run).seed for run in study.runs] == [0, 5, 0, 5, 7]
    assert [row.runs for row in study.tables["main"].rows] == [("scfs-s0", "scfs-s5"), ("fixed",)]
    assert study.figures["curves"].runs == ("dino-s0", "dino-s5")
    assert study.key_of("scfs-s5") == "scfs" and study.key_of("fixed") == "fixed"
    assert study.pairs == [("scfs-s0", "knn"), ("scfs-s5", "knn"), ("fixed", "knn")]


def test_no_seeds_leave_the_runs_as_they_are() -> None:
    assert list(parse_study(changed(seeds=[])).runs) == ["scfs", "dino", "fixed"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (changed(seeds=[0, 0]), r"params\.yaml: seeds = \[0, 0\]: each seed only once"),
        (changed(runs={"scfs": {}, "scfs-s0": {}, "fixed": {}, "dino": {}}), r"runs\.scfs-s0: the name of a seed of"),
        (changed(seeds=["x"]), "Input should be a valid integer"),
        (changed(runs={"scfs": {}, "dino": {}, "fixed": {"seed": -1}}), r"runs\.fixed: seed = -1"),
    ],
)
def test_bad_seeds_are_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ScfsError, match=message):
        parse_study(values)


def test_a_row_of_lists_is_left_to_the_schema() -> None:
    rows = [{"label": "x", "runs": [["scfs"]]}]
    with pytest.raises(ScfsError, match="Input should be a valid string"):
        parse_study(changed(tables={"main": {**STUDY["tables"]["main"], "rows": rows}}))


def test_an_included_run_has_its_own_studys_settings_and_parameters(written: Path) -> None:
    study = load_study(Path("second.yaml"))
    assert (study.run("scfs-s5").epochs, study.run("long").epochs) == (20, 30)
    assert study.run("scfs-s5") == load_study(Path("first.yaml")).run("scfs-s5")
    assert study.file_of("runs", "scfs-s5") == Path("first.yaml") and study.key_of("scfs-s5") == "scfs"
    keys = jobs.parameters(study, "pretrain", "scfs-s5")
    assert keys[Path("first.yaml")] == ("pretrain", "runs.scfs") and Path("second.yaml") not in keys
    assert study.pairs == [("scfs-s5", "knn"), ("long", "knn")]


def test_an_included_run_has_one_identity(written: Path) -> None:
    first, second = load_study(Path("first.yaml")), load_study(Path("second.yaml"))
    before = jobs.parameters_hash(first, "pretrain", "scfs-s5")
    assert before == jobs.parameters_hash(second, "pretrain", "scfs-s5")
    write("second.yaml", SECOND | {"pretrain": {"dataset": "photos", "epochs": 31}})
    assert jobs.parameters_hash(load_study(Path("second.yaml")), "pretrain", "scfs-s5") == before


def test_two_studies_may_include_the_same_third_one(written: Path) -> None:
    write("third.yaml", {"study": "third", "include": ["first.yaml"], "runs": {}})
    write("fourth.yaml", {"study": "fourth", "include": ["second.yaml", "third.yaml"]})
    study: Study = load_study(Path("fourth.yaml"))
    assert "long" in study.runs and study.file_of("runs", "scfs-s0") == Path("first.yaml")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            SECOND | {"include": ["./second.yaml"]},
            r"second\.yaml: include = .*: \./second\.yaml includes this file, or is",
        ),
        (SECOND | {"include": "first.yaml"}, "a list of files is expected"),
        (SECOND | {"include": ["none.yaml"]}, r"none\.yaml: cannot be read: No such file"),
        (SECOND | {"torch_threads": 2}, "torch_threads = 2: the included study first has 1"),
        (SECOND | {"runs": {"scfs-s0": {}, "long": {}}}, r"runs\.scfs-s0: defined by the included study first already"),
    ],
)
def test_a_bad_include_is_one_line(written: Path, values: dict[str, Any], message: str) -> None:
    write("second.yaml", values)
    with pytest.raises(ScfsError, match=message):
        load_study(Path("second.yaml"))


def test_studies_that_include_each_other_are_refused(written: Path) -> None:
    write("first.yaml", STUDY | {"include": ["second.yaml"]})
    with pytest.raises(ScfsError, match="includes this file, or is it"):
        load_study(Path("second.yaml"))


@pytest.mark.parametrize(
    ("run", "evaluation", "message"),
    [
        (
            {},
            {"kind": "class_probabilities"},
            "of run scfs-s0: method = 'scfs': only supervised runs have a classifier",
        ),
        ({}, {"kind": "linear", "cls_blocks": 4}, r"cls_blocks = 4: backbone resnet50 has no \[CLS\]"),
        (
            {"method": "supervised", "backbone": "vit_small_16"},
            {"kind": "class_probabilities"},
            "backbone = 'vit_small_16': allowed are ResNets",
        ),
    ],
)
def test_what_would_fail_after_the_training_is_refused_before(run: Any, evaluation: Any, message: str) -> None:
    values = changed(runs={"scfs": run, "dino": {}, "fixed": {}}, evaluate={"knn": {**evaluation, "dataset": "photos"}})
    column = {"label": "x", "evaluation": "knn", "value": "top1"}
    if evaluation["kind"] == "class_probabilities":
        column["value"] = "top1_original"
    values["tables"]["main"]["columns"] = [column]
    with pytest.raises(ScfsError, match=message):
        parse_study(values)


def test_the_kinds_of_weights_of_others_are_stages_of_their_own() -> None:
    imported = {"a": {"weights": "torchvision-resnet50", "backbone": "resnet50"}}
    imported["b"] = {"weights": "own/x.pth", "backbone": "resnet50", "format": "torchvision"}
    study = parse_study(changed(runs=STUDY["runs"] | imported))
    found = {job.key: job for job in (jobs.pretrain(study, run) for run in ("a", "b", "scfs-s0", "fixed"))}
    assert [job.stage for job in found.values()] == ["import_weights", "import_file", "pretrain", "pretrain"]
    assert found["b"].inputs == (Path("own/x.pth"),) and found["a"].inputs == ()
    assert found["scfs-s0"].variables.keys() == found["fixed"].variables.keys()
