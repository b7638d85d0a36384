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
        ("pretrain/epoch", 3, "params.yaml: runs.one: unknown key 'epoch' (did you mean 'epochs'?)"),
        ("pretrain", {"epoch": 3}, "runs.one: unknown key 'epoch' (did you mean 'epochs'?) (and 1 more)"),
        ("pretrain/momentm", 0, "unknown key 'momentm' (did you mean 'optimizer.momentum'?)"),
        ("pretrain/lr", 0.1, "unknown key 'lr' (did you mean 'optimizer.lr'?)"),
        ("pretrain/views", {"global_size": 64}, "views.local_size must not exceed views.global_size (64)"),
        ("pretrain/optimizer/momentun", 0, "unknown key 'optimizer.momentun' (did you mean 'momentum'?)"),
        ("evaluate/knn/dataste", "a", "unknown key 'evaluate.knn.dataste' (did you mean 'dataset'?)"),
        ("data/photos/split", {}, "unknown key 'data.photos.split' (did you mean 'splits'?)"),
        ("tables/main/colums", [], "unknown key 'tables.main.colums' (did you mean 'columns'?)"),
        ("tables/main/rows/0/run", "one", "unknown key 'tables.main.rows.0.run' (did you mean 'runs'?)"),
        ("runs/one/zzz", 1, "runs.one: unknown key 'zzz'"),
        ("runs/one/epochs", True, "params.yaml: runs.one: epochs: true and false are no numbers"),
        ("runs/one/optimizer", {"lr": False}, "runs.one: optimizer.lr: true and false are no numbers"),
        ("torch_threads", True, "params.yaml: torch_threads: true and false are no numbers"),
        ("evaluate/knn/k", [20, True], "params.yaml: evaluate.knn.k.1: true and false are no numbers"),
        ("runs/" + "r" * 101, {}, "String should have at most 100 characters"),
        ("data/" + "d" * 101, {"source": "folder", "splits": {"a": "b"}}, "String should have at most 100 characters"),
        ("data/photos/splits", {"s" * 101: "a"}, "String should have at most 100 characters"),
        ("study", "s" * 101, "String should have at most 100 characters"),
        ("runs/one/epochs", "e" * 5000, "e ... e"),
        ("runs/one/" + "e" * 5000, 1, "e ... e"),
        ("tables/main/rows/0/runs", ["r" * 5000], "r ... r"),
        ("evaluate/knn/kind", "k" * 5000, "k ... k"),
        ("runs/one/backbone", "resnet7", "params.yaml: runs.one: backbone = 'resnet7': Input should be 'resnet18'"),
        ("runs/one/optimizer", {"lr": -1}, "runs.one: optimizer.lr = -1: Input should be greater than or equal to 0"),
        ("runs/one/optimizer", {"lr": float("nan")}, "runs.one: optimizer.lr = nan: Input should be a finite number"),
        ("runs/one/optimizer", {"warmup_epochs": 9}, "optimizer.warmup_epochs must not exceed epochs (4)"),
        ("runs/one/views", {"local_scale": [0.5, 0.1]}, "local_scale: must be [low, high] with low <= high"),
        ("runs/one", {"method": "roi_crop", "views": {"local_number": 0}}, "at least 1 for method roi_crop"),
        (
            "runs/one/drop_path",
            0.1,
            "drop_path must be 0 for backbone resnet50: only vit_small_16, vit_base_16, narrow",
        ),
        ("runs/one", {"backbone": "vit_small_16", "drop_path": 1.0}, "drop_path = 1.0: Input should be less than 1"),
        (
            "runs/one",
            {"backbone": "vit_base_16", "views": {"global_size": 216}},
            "views.global_size must be a multiple of 16 for backbone vit_base_16",
        ),
        (
            "runs/one",
            {"backbone": "narrow_vit_8", "views": {"local_size": 36}},
            "views.local_size must be a multiple of 8 for backbone narrow_vit_8",
        ),
        (
            "runs/one",
            {"backbone": "narrow_vit_8", "batch": 1, "views": {"local_number": 1}},
            "views.local_number must exceed 1:",
        ),
        (
            "runs/one",
            {"method": "supervised", "batch": 1, "views": {"local_number": 1, "local_size": 32}},
            "must exceed 1:",
        ),
        ("runs/one/layers", [], "layers must name at least one layer for method scfs"),
        ("runs/one/dataset", "cats", "params.yaml: runs.one.dataset = 'cats': not among ['photos']"),
        ("runs/one/split", "all", "runs.one.split = 'all': not among ['pretrain', 'train', 'val']"),
        ("runs/one/seed", -1, "runs.one: seed = -1: Input should be greater than or equal to 0"),
        ("runs/one/seed", 2**63, "runs.one: seed = 9223372036854775808: Input should be less than"),
        (
            "runs/one/head",
            {"prototypes": 10**12},
            "head.prototypes = 1000000000000: Input should be less than or equal",
        ),
        ("runs/one/head", {"prototypes": 1}, "head.prototypes = 1: Input should be greater than or equal to 2"),
        ("runs/one", {"batch": 4, "accumulate": 4, "views": {"local_number": 1}}, "views.local_number must exceed 1:"),
        ("runs/one", {"method": "dino", "batch": 1, "views": {"local_number": 1, "local_size": 32}}, "must exceed 1:"),
        (
            "data/scenes",
            {"source": "garment-scenes", "seed": -1, "splits": {"a": {"scenes": 1}}},
            "seed = -1: Input should be greater than or equal to 0",
        ),
        (
            "evaluate/probe",
            {"kind": "linear", "dataset": "photos", "seeds": [0, -1]},
            "seeds.1 = -1: Input should be greater than or equal to 0",
        ),
        (
            "evaluate/deep",
            {"kind": "layers", "dataset": "photos", "layers": []},
            "layers = []: Tuple should have at least 1",
        ),
        ("evaluate/knn/kind", "svm", "evaluate.knn.kind = 'svm': not among 'detection', 'finetune', 'knn', 'layers'"),
        ("evaluate/knn/dataset", "cats", "evaluate.knn.dataset = 'cats': not among ['photos']"),
        ("evaluate/pretrain", {"kind": "knn", "dataset": "photos"}, "evaluate.pretrain: the name is taken"),
        ("evaluate/k.n", {"kind": "knn", "dataset": "photos"}, "evaluate.k.n"),
        ("evaluate/knn/report_k", 5, "report_k must be one of k [10, 20, 30]"),
        ("evaluate/knn/crop", 300, "crop must not exceed resize (256)"),
        ("data/photos/source", "web", "data.photos.source = 'web': not among 'garment-scenes', 'photo-scenes'"),
        ("data/photos", {"splits": {"pretrain": "a"}}, "key 'data.photos.source' is missing"),
        ("tables/main/rows/0/runs", ["three"], "tables.main: run = 'three': not among ['one', 'two']"),
        ("tables/main/columns/0/evaluation", "svm", "tables.main: evaluation = 'svm': not among ['knn']"),
        ("tables/main/columns/0/value", "topp1", "tables.main: value = 'topp1': not among ['top1', 'top1_k10', "),
    ],
)
def test_mistakes(path: str, value: Any, message: str) -> None:
    with pytest.raises(ScfsError) as error:
        parse_study(with_value(path, value))
    assert message in str(error.value)
    assert "\n" not in str(error.value) and len(str(error.value)) < 1100


@pytest.mark.parametrize(
    "settings",
    [
        {"batch": 1, "views": {"local_number": 0}},  # the two global crops
        {"batch": 1, "views": {"local_number": 2}},
        {"batch": 4, "accumulate": 2, "views": {"local_number": 1}},
        {"method": "dino", "batch": 1, "views": {"local_number": 1}},  # 96 pixels: the last map has 3 x 3 positions
        {"batch": 1, "views": {"local_number": 1}, "epochs": 0},
        # A ViT has no BatchNorm, and this method no heads of layers.
        {"backbone": "narrow_vit_8", "method": "dino", "batch": 1, "views": {"local_number": 1, "local_size": 8}},
    ],
)
def test_small_batches_that_batch_norm_can_take(settings: dict[str, Any]) -> None:
    parse_study(with_value("runs/one", settings))


def test_local_size_does_not_matter_without_local_crops_and_layers_do_not_where_nothing_is_searched() -> None:
    parse_study(with_value("runs/one", {"backbone": "narrow_vit_8", "views": {"local_size": 36, "local_number": 0}}))
    parse_study(with_value("runs/one", {"method": "supervised", "layers": []}))


def test_the_largest_seed() -> None:
    assert parse_study(with_value("runs/one/seed", 2**63 - 1)).run("one").seed == 2**63 - 1


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ScfsError, match=r"none\.yaml: cannot be read: No such file"):
        load_study(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("study: [")
    with pytest.raises(ScfsError, match=r"bad\.yaml: not valid YAML"):
        load_study(tmp_path / "bad.yaml")
    (tmp_path / "latin.yaml").write_bytes("study: caf\u00e9".encode("latin-1"))
    with pytest.raises(ScfsError, match=r"latin\.yaml: not UTF-8 text: .* in position 10: "):
        load_study(tmp_path / "latin.yaml")
    (tmp_path / "date.yaml").write_text("study: 2025-13-01")
    with pytest.raises(ScfsError, match=r"date\.yaml: not valid YAML: month must be in 1\.\.12"):
        load_study(tmp_path / "date.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ScfsError, match=r"list\.yaml: \(top level\) = \[1\]"):
        load_study(tmp_path / "list.yaml")
