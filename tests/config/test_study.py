"""A study is checked whole on loading, and every mistake is one line with the key, the value and what is allowed."""

import copy
from pathlib import Path
from typing import Any

import pytest

from scfs.config.study import load_study, parse_study
from scfs.errors import ScfsError

STUDY: dict[str, Any] = {
    "study": "small",
    "data": {"photos": {"source": "folder", "splits": {"pretrain": "a", "train": "b", "val": "c"}}},
    "pretrain": {"dataset": "photos", "optimizer": {"lr": 0.2, "warmup_epochs": 0}, "epochs": 4},
    "runs": {"one": {}, "two": {"method": "dino", "optimizer": {"lr": 0.4}}},
    "evaluate": {"knn": {"kind": "knn", "dataset": "photos"}},
    "tables": {
        "main": {
            "title": "t",
            "columns": [{"label": "k-NN", "evaluation": "knn", "value": "top1"}],
            "rows": [{"label": "One", "runs": ["one"]}],
        }
    },
}


def with_value(path: str, value: Any) -> dict[str, Any]:
    study = copy.deepcopy(STUDY)
    *parents, last = path.split("/")
    node: Any = study
    for key in parents:
        node = node[int(key)] if isinstance(node, list) else node[key]
    node[last] = value
    return study


def test_a_run_is_the_shared_settings_with_its_differences_laid_over() -> None:
    run = parse_study(STUDY).run("two")
    assert run.method == "dino"
    assert run.optimizer.lr == 0.4 and run.optimizer.warmup_epochs == 0  # nested keys are merged, not replaced
    assert run.epochs == 4 and run.views.local_number == 8  # shared, and the paper's default


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("studdy", "x", "params.yaml: unknown key 'studdy'"),
        ("study", "My Study", "params.yaml: study = 'My Study': String should match pattern"),
        ("pretrain/epoch", 3, "params.yaml: runs.one: unknown key 'epoch'"),
        ("runs/one/backbone", "resnet7", "params.yaml: runs.one: backbone = 'resnet7': Input should be 'resnet18'"),
        ("runs/one/optimizer", {"lr": -1}, "runs.one: optimizer.lr = -1: Input should be greater than or equal to 0"),
        ("runs/one/optimizer", {"lr": float("nan")}, "runs.one: optimizer.lr = nan: Input should be a finite number"),
        ("runs/one/optimizer", {"warmup_epochs": 9}, "optimizer.warmup_epochs must not exceed epochs (4)"),
        ("runs/one/views", {"local_scale": [0.5, 0.1]}, "local_scale must be [low, high] with low <= high"),
        ("runs/one", {"method": "roi_crop", "views": {"local_number": 0}}, "at least 1 for method roi_crop"),
        ("runs/one/layers", [], "layers must name at least one layer for method scfs"),
        ("runs/one/dataset", "cats", "params.yaml: runs.one.dataset = 'cats': not among ['photos']"),
        ("runs/one/split", "all", "runs.one.split = 'all': not among ['pretrain', 'train', 'val']"),
        ("evaluate/knn/kind", "svm", "evaluate.knn.kind = 'svm': not among 'knn', 'layers'"),
        ("evaluate/knn/dataset", "cats", "evaluate.knn.dataset = 'cats': not among ['photos']"),
        ("evaluate/pretrain", {"kind": "knn", "dataset": "photos"}, "evaluate.pretrain: the name is taken"),
        ("evaluate/k.n", {"kind": "knn", "dataset": "photos"}, "evaluate.k.n"),
        ("evaluate/knn/report_k", 5, "report_k must be one of k [10, 20, 30]"),
        ("evaluate/knn/crop", 300, "crop must not exceed resize (256)"),
        ("data/photos/source", "web", "data.photos.source = 'web': not among 'garment-scenes', 'folder'"),
        ("data/photos", {"splits": {"pretrain": "a"}}, "key 'data.photos.source' is missing"),
        ("tables/main/rows/0/runs", ["three"], "tables.main: run = 'three': not among ['one', 'two']"),
        ("tables/main/columns/0/evaluation", "svm", "tables.main: evaluation = 'svm': not among ['knn']"),
    ],
)
def test_mistakes(path: str, value: Any, message: str) -> None:
    with pytest.raises(ScfsError) as error:
        parse_study(with_value(path, value))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ScfsError, match=r"none\.yaml: cannot be read: No such file"):
        load_study(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("study: [")
    with pytest.raises(ScfsError, match=r"bad\.yaml: not valid YAML"):
        load_study(tmp_path / "bad.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ScfsError, match=r"list\.yaml: \(top level\) = \[1\]"):
        load_study(tmp_path / "list.yaml")
