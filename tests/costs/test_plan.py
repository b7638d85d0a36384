"""Numbers that were worked out by hand, or are the papers'."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from scfs.cli.app import app
from scfs.config.pretrain import Pretrain
from scfs.config.study import parse_study
from scfs.costs.counting import forward_flops, training_work
from scfs.costs.plan import describe, memory_table, plan
from scfs.errors import ScfsError
from scfs.training.memory import USABLE, step_memory

SMALL_HEADS = {
    "head": {"hidden": 16, "bottleneck": 8, "prototypes": 16},
    "search_head": {"width": 8, "hidden": 16, "output": 8},
}
STUDY = {
    "study": "s",
    "data": {"mine": {"source": "folder", "splits": {"train": "a", "val": "b"}, "images": {"train": 1001, "val": 50}}},
    "pretrain": {"dataset": "mine", "split": "train", "backbone": "narrow_resnet18", "batch": 10, "epochs": 3,
                 "optimizer": {"warmup_epochs": 1}, **SMALL_HEADS},
    "runs": {"one": {}, "two": {"method": "dino"}, "random": {"epochs": 0}},
    "evaluate": {"knn": {"kind": "knn", "dataset": "mine"}, "linear": {"kind": "linear", "dataset": "mine", "epochs": 7}},
    "tables": {"main": {"title": "t", "columns": [{"label": "k", "evaluation": "knn", "value": "top1"},
                                                  {"label": "l", "evaluation": "linear", "value": "top1"}],
                        "rows": [{"label": "r", "runs": ["one", "two"]}]}},
}  # fmt: skip


def test_the_papers_scfs_takes_142_gigaflop_per_image() -> None:
    assert training_work(Pretrain(dataset="x")).flops / 1e9 == pytest.approx(142, rel=0.05)


def test_a_resnet50_takes_8_gigaflop_forward() -> None:
    """4.09 billion multiplications and additions at 224 pixels (torchvision's documentation); 2 operations each."""
    assert forward_flops("resnet50", 224) / 1e9 == pytest.approx(2 * 4.09, rel=0.01)


def test_dino_takes_the_student_three_times_and_the_teacher_once() -> None:
    settings = Pretrain(dataset="x", method="dino", **SMALL_HEADS)
    student = 2 * forward_flops("resnet50", 224) + 8 * forward_flops("resnet50", 96)
    teacher = 2 * forward_flops("resnet50", 224)
    # The first convolution needs no gradient of the image, which saves some hundredths.
    assert training_work(settings).flops == pytest.approx(3 * student + teacher, rel=0.03)


@pytest.mark.parametrize("method", ["dino_ml", "roi_crop", "supervised"])
def test_every_method_is_counted(method: str) -> None:
    small = {
        "dataset": "x",
        "backbone": "narrow_resnet18",
        "views": {"global_size": 64, "local_size": 32},
        **SMALL_HEADS,
    }
    assert training_work(Pretrain(method=method, **small)).flops > 2 * forward_flops("narrow_resnet18", 64)


def test_disk_of_a_training() -> None:
    """ResNet-50 without classifier: 23,508,032 parameters, 53,120 running statistics and 53 counters (8 bytes).

    Head: 2048*2048 + 2048, 2048*2048 + 2048, 2048*256 + 256; prototypes 65536*256 + 65536 (lengths, not learnt).
    What lies on the disk does not depend on the local crops, which would be counted for long.
    """
    values = {"dataset": "x", "method": "dino", "views": {"local_number": 0}}
    head = 2 * (2048 * 2048 + 2048) + 2048 * 256 + 256 + 65536 * 256
    encoder = 4 * (23_508_032 + 53_120 + head + 65536) + 8 * 53
    work = training_work(Pretrain(**values))
    assert work.weights == 2 * encoder
    assert work.states == 2 * (2 * encoder + 4 * 65536 + 4 * (23_508_032 + head))
    adamw = Pretrain(**values, optimizer={"name": "adamw"})
    assert training_work(adamw).states - work.states == 2 * 4 * (23_508_032 + head)
    random = Pretrain(**values, epochs=0, optimizer={"warmup_epochs": 0})
    assert training_work(random).states == 0


def test_costs_of_a_study() -> None:
    found = plan(parse_study(STUDY))
    costs = {(cost.rule, cost.name): cost for cost in found.costs}
    assert len(costs) == 2 + 3 + 4 + 1 + 1  # data and its inspection, runs, evaluations, table, report
    one = costs["pretrain", "one"]
    assert one.flops == one.per_image * 1000 * 3  # batches of ten: the last image is left out
    assert costs["pretrain", "random"].flops == 0
    each = forward_flops("narrow_resnet18", 224)
    assert costs["evaluate", "knn one"].flops == (1001 + 50) * each
    assert costs["evaluate", "linear one"].flops == (7 * 1001 + 50) * each
    assert any("mine/train: 1,001 images, as the study says" in text for text in found.assumptions)


def test_the_text_is_no_measurement() -> None:
    found = plan(parse_study(STUDY))
    text = describe(found, gpus=2, flops_per_second=1e6)
    assert "Computed, not measured" in text.splitlines()[0]
    assert "1e+06 operations per second, as given by --flops-per-second" in text
    total = sum(cost.flops for cost in found.costs) / 1e6 / 3600
    assert f"{total:,.1f}" in next(line for line in text.splitlines() if line.startswith("total"))
    assert f"on 2 GPUs: {total / 48:,.1f} days" in text
    assert "10% of the 989 TFLOP/s (bf16, dense) that its maker states for a H100" in describe(found, 1, None)


def test_memory_by_training_and_what_fits() -> None:
    found = plan(parse_study(STUDY))
    rows = {row[0]: row[1:] for row in memory_table(found, memory=80e9)}
    assert rows.keys() == {"training", "one", "two"}  # nothing is trained for random weights
    one = step_memory(parse_study(STUDY).run("one"))
    assert rows["one"] == ["10", f"{one.of(10) / 1e9:,.1f}", "10", "", ""]
    short = memory_table(found, memory=one.of(5) / USABLE + 1)[1]
    less = step_memory(parse_study(STUDY).run("one"), checkpointing=True)
    assert short[3:] == ["5", f"{less.of(10) / 1e9:,.1f}", str(less.largest_part(10, one.of(5) / USABLE + 1))]
    text = describe(found, 1, None, memory=24e9)
    assert "fits: the most images of a batch at a time (accumulate) in 90% of 24 GB (--memory)" in text


def test_an_unknown_number_of_images_is_said() -> None:
    data = {"mine": {"source": "folder", "splits": {"train": "a", "val": "b"}}}
    found = plan(parse_study({**STUDY, "data": data}))
    assert "mine/train: number of images unknown before `scfs prepare mine`: counted as 0" in found.assumptions


def test_fine_tuning_counts_each_cell_and_the_final_training() -> None:
    tuned = {"kind": "finetune", "dataset": "mine", "steps": 20, "batch": 10, "lr": [0.1, 0.2], "weight_decay": [0.0]}
    semi = {**tuned, "steps": None, "epochs": 4, "labels": {"share": 0.1}, "lr": [0.1]}
    columns = [{"label": name, "evaluation": name, "value": "top1"} for name in ("transfer", "semi")]
    table = {"title": "t", "columns": columns, "rows": [{"label": "r", "runs": ["one"]}]}
    study = parse_study({**STUDY, "evaluate": {"transfer": tuned, "semi": semi}, "tables": {"main": table}})
    passes = {(cost.rule, cost.name): cost.flops / forward_flops("narrow_resnet18", 224) for cost in plan(study).costs}
    # 20 steps of 10 images, three passes each; a tenth of 1001 images validates a cell, 50 images test the final one.
    assert passes["tune", "transfer one-lr0-wd0"] == pytest.approx(3 * 200 + 100.1)
    assert passes["tune", "transfer one-lr1-wd0"] == pytest.approx(3 * 200 + 100.1)
    assert passes["finetune", "transfer one"] == pytest.approx(3 * 200 + 50)
    # 100 of 1001 images have labels, four epochs; a single cell is no choice.
    assert passes["finetune", "semi one"] == pytest.approx(3 * 4 * 100 + 50)
    assert ("tune", "semi one-lr0-wd0") not in passes


def test_a_detector_sees_as_many_images_with_smaller_batches() -> None:
    boxes = {"source": "coco", "splits": {"train": {"images": "a", "annotations": "a.json"}}, "images": {"train": 7}}
    detector = {"kind": "detection", "recipe": "voc_faster_rcnn_c4", "dataset": "boxes", "test": "train", "trials": 2}
    fewer = {**detector, "images_per_batch": 4, "trials": 1}
    columns = [{"label": name, "evaluation": name, "value": "ap"} for name in ("sixteen", "four")]
    study = parse_study(
        {
            **STUDY,
            "data": {**STUDY["data"], "boxes": boxes},
            "evaluate": {"sixteen": detector, "four": fewer},
            "tables": {"main": {"title": "t", "columns": columns, "rows": [{"label": "r", "runs": ["one"]}]}},
        }
    )
    flops = {cost.name: cost.flops for cost in plan(study).costs if cost.rule == "detect"}
    # 24000 steps of 16 images (method of the recipe), three passes; 7 test images; 800 x 1067 pixels.
    images = (3 * 24000 * 16 + 7) * 800 * 800 * 4 / 3 / 224**2
    assert flops["sixteen one-trial-0"] == pytest.approx(images * forward_flops("narrow_resnet18", 224))
    assert flops["sixteen one-trial-1"] == flops["sixteen one-trial-0"] == flops["four one-trial-0"]


def test_a_plan_needs_no_copy_of_the_project_and_dvcs_file_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump(STUDY))
    done = CliRunner().invoke(app, ["plan"])
    assert done.exit_code == 0 and "study s: a plan." in done.stdout
    done = CliRunner().invoke(app, ["dvc-file"])
    assert isinstance(done.exception, ScfsError) and str(done.exception).startswith("scfs: no such folder: ")
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]
