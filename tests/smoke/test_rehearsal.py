"""The rehearsal of a study: the same jobs and commands on next to nothing, and never to be taken for the study."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from repository import ROOT
from warm import warm_programs

from scfs.config.data_source import SMALL_IMAGES
from scfs.config.protocol import SMALL_BATCH
from scfs.config.study import Study, load_study, parse_study
from scfs.errors import ScfsError
from scfs.pipeline import jobs
from scfs.smoke.rehearsal import SCALE, set_up, small_study, smoke

pytestmark = pytest.mark.end_to_end

STUDIES = ["params.yaml", *sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("config/*/params.yaml"))]
KEPT = ("method", "preset", "backbone", "layers", "drop_path")


def loaded(folder: Path, monkeypatch: pytest.MonkeyPatch, values: dict[str, Any], study: str) -> Study:
    """The values as a study's file, in a folder without anything else but the code."""
    for name in ("scfs", "workflow"):
        (folder / name).symlink_to(ROOT / name)
    (folder / study).parent.mkdir(parents=True, exist_ok=True)
    (folder / study).write_text(yaml.safe_dump(values))
    monkeypatch.chdir(folder)
    return load_study(Path(study))


def commands(study: Study, dropped: set[str]) -> set[tuple[str, str, str]]:
    """Stage, key and command of every job; a rehearsal takes stand-in files where the study takes catalogues' entries,
    and no more than two trials, rates and weight decays."""
    found = (
        job
        for job in jobs.jobs(study)
        if job.variables.get("run", job.key) not in dropped
        and all(int(number) < 2 for number in re.findall(r"\d+", job.variables.get("part", "")))
    )
    same = {"import_file": "import_weights", "prepare_official": "prepare", "prepare_subset": "prepare"}
    return {(same.get(job.stage, job.stage), job.key, job.command) for job in found}


@pytest.mark.parametrize("name", STUDIES)
def test_the_same_jobs_with_the_same_commands_and_two_steps(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    before = load_study(Path(name))
    first = {run for run in before.runs if not run.endswith(("-s1", "-s2"))}
    wanted = commands(before, dropped=set(before.runs) - first)
    small = loaded(tmp_path, monkeypatch, small_study(before), name)

    assert commands(small, set()) == wanted
    assert small.study == f"{before.study}-smoke" and small.scale == SCALE
    for run in small.runs:
        if (imported := small.imported(run)) is not None:
            assert imported.backbone == before.settings(run).backbone and imported.weights.startswith("stand-ins/")
            continue
        new, old = small.run(run), before.run(run)
        assert [getattr(new, key) for key in KEPT] == [getattr(old, key) for key in KEPT]
        assert new.optimizer.name == old.optimizer.name
        assert new.views.local_number == old.views.local_number
        steps = new.epochs * (SMALL_IMAGES // new.batch)
        assert steps == (2 if old.epochs else 0)


@pytest.mark.parametrize("name", STUDIES)
def test_one_row_per_table(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    small = loaded(tmp_path, monkeypatch, small_study(load_study(Path(name)), rows=1), name)
    assert {len(table.rows) for table in small.tables.values()} == {1}
    shown = {run for table in small.tables.values() for row in table.rows for run in row.runs}
    shown |= {run for figure in small.figures.values() for run in small.shown(figure)}
    assert set(small.runs) == shown


def file(**changes: Any) -> dict[str, Any]:
    values = {
        "study": "s",
        "data": {"a": {"source": "folder", "splits": {"train": "x", "val": "y"}}},
        "runs": {"r": {"dataset": "a", "split": "train"}},
        "evaluate": {"knn": {"kind": "knn", "dataset": "a", "k": [5, 200], "report_k": 200}},
        "tables": {
            "main": {
                "title": "t",
                "columns": [{"label": "k", "evaluation": "knn", "value": "top1_k200"}],
                "rows": [{"label": "r", "runs": ["r"]}],
            }
        },
    }
    return {**values, **changes}


def test_neighbours_are_few_and_their_names_follow() -> None:
    small = small_study(parse_study(file()))
    assert (small["evaluate"]["knn"]["k"], small["evaluate"]["knn"]["report_k"]) == ([1, 2], 2)
    assert small["tables"]["main"]["columns"][0]["value"] == "top1_k2"


def test_what_is_zero_stays_zero() -> None:
    runs = {"r": {"epochs": 0, "optimizer": {"warmup_epochs": 0}}, "q": {"epochs": 800, "batch": 1024}}
    shared = {"dataset": "a", "split": "train", "accumulate": 8}
    small = small_study(parse_study(file(runs=runs, pretrain=shared)))["runs"]
    assert (small["r"]["epochs"], small["r"]["optimizer"]["warmup_epochs"]) == (0, 0)
    assert (small["q"]["epochs"], small["q"]["optimizer"]["warmup_epochs"]) == (1, 0.5)
    assert small["q"]["batch"] == SMALL_BATCH and small["q"]["accumulate"] == 2


def test_the_folder_of_somebody_else_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(file()))
    mine = tmp_path / "smoke" / "s" / "mine"
    mine.mkdir(parents=True)
    with pytest.raises(ScfsError, match=r"smoke/s: exists and was not made by smoke"):
        set_up(Path("s.yaml"))
    assert mine.exists()


BOXES: dict[str, Any] = {
    "coco": {
        "source": "coco",
        "splits": {"train": {"images": "coco/train2017", "annotations": "coco/annotations/instances_train2017.json"}},
    },
    "voc": {"source": "voc", "splits": {"train": ["VOCdevkit/VOC2007/ImageSets/Main/trainval.txt"]}},
}
PHOTOS: dict[str, Any] = {
    "source": "folder",
    "splits": {"train": "x", "val": "y"},
    "class_list": {"file": "list.txt", "sha256": "0" * 64, "url": "https://example.org"},
}


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rehearsal, for real and through Snakemake, that goes through every rule, kind of figure and evaluation.

    It is a row of tables of the study mini, which are the paper's, and what that study lacks: weights of others, a class
    list, pre-training on images whose boxes nobody needs. Left out is what differs by a setting alone: tables whose
    evaluations others have, the longer schedule of Mask R-CNN, the larger share of labels, the deeper ResNet.
    """
    values = yaml.safe_load((ROOT / "config/mini/params.yaml").read_text())
    for table in ("table1", "table6", "table7", "table9", "table10"):
        del values["tables"][table]
    for table, columns in (("table2", 1), ("table4", 2)):
        del values["tables"][table]["columns"][columns:]
    values["figures"]["fig5"]["points"] = {
        line: [{"x": 4, "runs": [run]}] for line, run in (("DINO", "mini-dino"), ("SCFS", "mini-scfs-res2"))
    }
    values["data"] |= {"photos": PHOTOS, **BOXES}
    values["runs"] |= {name: {"dataset": name, "split": "train"} for name in BOXES}
    values["runs"]["theirs"] = {"weights": "torchvision-resnet18", "backbone": "resnet18"}
    values["evaluate"]["knn-photos"] = {"kind": "knn", "dataset": "photos", "k": [5, 200], "report_k": 200}
    values["tables"]["theirs"] = {
        "title": "t",
        "columns": [{"label": "k", "evaluation": "knn-photos", "value": "top1"}],
        "rows": [{"label": "r", "runs": ["theirs"]}],
    }
    values["figures"] |= {f"curves-{name}": {"kind": "curves", "runs": [name]} for name in BOXES}
    folder = tmp_path_factory.mktemp("rehearsed")
    (folder / "mini.yaml").write_text(yaml.safe_dump(values))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        # It starts Snakemake at once, and in its folder there is such a `scfs`.
        patch.setattr(sys, "executable", str(warm_programs() / "warm-python"))
        smoke(Path("mini.yaml"), cores=2, rows=1)
    return folder / "smoke" / "mini"


def record_of(rehearsed: Path, run: str) -> dict[str, Any]:
    record: dict[str, Any] = yaml.safe_load((rehearsed / "results" / "runs" / run / "pretrain.json").read_text())
    return record


def test_tables_figures_and_report_are_made(rehearsed: Path) -> None:
    shown = rehearsed / "results" / "studies" / "mini-smoke"
    made = {path.name for path in [*(shown / "tables").iterdir(), *(shown / "figures").iterdir()]}
    assert {f"{table}.md" for table in ("main", "table2", "table3", "table4", "table5", "table8", "theirs")} <= made
    assert {"curves.svg", "attention.png", "layers.svg", "fig1.png", "fig5.svg", "curves-coco.svg"} <= made
    assert "mini-smoke" in (shown / "report.html").read_text()


def test_trainings_of_the_first_seed_have_two_steps(rehearsed: Path) -> None:
    for run in ("mini-dino-s0", "mini-scfs-res2-s0", "coco-s0", "voc-s0"):
        record = record_of(rehearsed, run)
        assert record["curve"]["step"] == [2] and record["dataset"]["images"] == SMALL_IMAGES
    assert not list((rehearsed / "checkpoints").glob("*-s1.safetensors"))


def test_weights_of_others_are_stand_ins(rehearsed: Path) -> None:
    assert record_of(rehearsed, "theirs")["source"]["file"] == "theirs.pth"


def test_stand_ins_for_official_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data sets of one's own of the same splits, which `prepare` takes."""
    from scfs.data.prepare import prepare

    entries = {"imagenet": "archive", "imagenet100": "shards", "cifar10": "folder", "voc": "folder", "coco": "folder"}
    data = {name: {"source": "official", "entry": name, "layout": layout} for name, layout in entries.items()}
    study = tmp_path / "config" / "official" / "params.yaml"
    study.parent.mkdir(parents=True)
    knn = {"kind": "knn", "dataset": "cifar10", "test": "test", "k": [5], "report_k": 5}
    study.write_text(yaml.safe_dump({"study": "official", "data": data, "evaluate": {"knn": knn}}))
    monkeypatch.chdir(tmp_path)
    before = load_study(study)
    monkeypatch.chdir(set_up(Path("config/official/params.yaml")))
    small = load_study(Path("config/official/params.yaml"))
    sources = {name: config.source for name, config in small.data.items()}
    assert sources == {"imagenet": "folder", "imagenet100": "folder", "cifar10": "folder", "voc": "voc", "coco": "coco"}
    for name, config in small.data.items():
        assert set(config.splits) == set(before.data[name].splits)
        prepare(name, config, Path("data") / name)
