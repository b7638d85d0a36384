"""Protocols of detection and fine-tuning: what a study may ask for, its jobs, and every bad setting one line."""

from typing import Any

import pytest

from scfs.config.study import Study, parse_study
from scfs.errors import ScfsError
from scfs.pipeline import jobs

BOXES = {"source": "coco", "splits": {s: {"images": s, "annotations": f"{s}.json"} for s in ("train", "val")}}
DETECTION = {"kind": "detection", "recipe": "voc_faster_rcnn_c4", "dataset": "boxes", "trials": 2}
TRANSFER = {"kind": "finetune", "dataset": "mine", "steps": 10, "lr": [0.1, 0.2], "weight_decay": [0.0]}


def study(evaluation: dict[str, Any], value: str, run: dict[str, Any] | None = None) -> Study:
    column = {"label": "x", "evaluation": "e", "value": value}
    folders = {"source": "folder", "splits": {"train": "a", "val": "b"}}
    return parse_study(
        {
            "study": "s",
            "data": {"boxes": BOXES, "mine": folders},
            "pretrain": {"dataset": "mine", "split": "train", "backbone": "resnet18"},
            "runs": {"r": run or {}},
            "evaluate": {"e": evaluation},
            "tables": {"t": {"title": "t", "columns": [column], "rows": [{"label": "r", "runs": ["r"]}]}},
        }
    )


def test_jobs_of_a_detector_and_of_a_grid() -> None:
    commands = [job.command for job in jobs.jobs(study(DETECTION, "ap50_sd"))]
    detector = ["detect e trial-0 --run r", "detect e trial-1 --run r", "average e --run r"]
    assert "convert --run r --to detectron2" in commands
    assert [command for command in commands if command.split()[0] in ("detect", "average")] == detector
    commands = [job.command for job in jobs.jobs(study(TRANSFER, "mean_per_class"))]
    assert commands[-5:-2] == ["tune e lr0-wd0 --run r", "tune e lr1-wd0 --run r", "finetune e --run r"]
    single = [job.command for job in jobs.jobs(study({**TRANSFER, "lr": [0.1]}, "top1"))]
    assert not [command for command in single if command.startswith("tune")]


def test_a_list_of_labels_of_ones_own_data_and_a_validation_split() -> None:
    listed = {"file": "l.txt", "sha256": 64 * "0", "url": "x"}
    found = study({**TRANSFER, "labels": listed, "validation": "val", "test": "train", "train": "train"}, "top5")
    assert found.evaluate["e"].splits == ("train", "val", "train")


@pytest.mark.parametrize(
    ("evaluation", "value", "said"),
    [
        ({**DETECTION, "recipe": "yolo"}, "ap", "evaluate.e.recipe = 'yolo': Input should be 'voc_faster_rcnn_c4'"),
        ({**DETECTION, "kind": "segmentation"}, "ap", "evaluate.e.kind = 'segmentation': not among"),
        ({**DETECTION, "dataset": "mine"}, "ap", "dataset = 'mine': its images have no boxes"),
        ({**DETECTION, "test": "none"}, "ap", "evaluate.e: split = 'none': not among"),
        (DETECTION, "mask_ap", "value = 'mask_ap': not among"),
        ({**DETECTION, "trials": 1}, "ap_sd", "value = 'ap_sd': not among"),
        ({**DETECTION, "small_machine": {"iterations": 0, "short_side": 9}}, "ap", "small_machine.iterations = 0"),
        ({**TRANSFER, "epochs": 3}, "top1", "evaluate.e: give either steps or epochs"),
        ({**TRANSFER, "steps": None}, "top1", "evaluate.e: give either steps or epochs"),
        ({**TRANSFER, "accumulate": 3}, "top1", "accumulate = 3: does not divide batch = 256"),
        ({**TRANSFER, "validation": "none"}, "top1", "evaluate.e: split = 'none': not among"),
        ({**TRANSFER, "metric": "top5"}, "top1", "evaluate.e.metric = 'top5'"),
    ],
)
def test_a_bad_protocol_is_one_line(evaluation: dict[str, Any], value: str, said: str) -> None:
    with pytest.raises(ScfsError) as error:
        study(evaluation, value)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_vit_has_no_detector() -> None:
    with pytest.raises(ScfsError, match="backbone = 'vit_small_16': allowed are ResNets"):
        study(DETECTION, "ap", {"backbone": "vit_small_16"})
