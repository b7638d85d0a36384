"""The stage: it trains, measures and writes; stopped anywhere, it ends with the same bytes; what is wrong is one line."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import small_detector
import torch
from small_detector import OUT, STEPS, assert_same_outcome, checkpoints, protocol, run, train

from scfs.io.locks import run_lock

import scfs.detection.compat  # isort: skip  # noqa: F401

from detectron2.structures import Boxes, Instances

from scfs.config.identity import identity
from scfs.data.coco_rle import decode_mask
from scfs.data.opening import open_detection_split
from scfs.detection import stage
from scfs.detection.batches import EvaluationImages, TrainingBatches
from scfs.detection.data import Record
from scfs.detection.inference import figure_arrays, figure_size
from scfs.detection.stage import open_trial
from scfs.detection.training import DetectorTraining
from scfs.detection.weights import read_converted
from scfs.errors import ScfsError
from scfs.io.safe_pickle import dump, load

pytestmark = pytest.mark.detectron2

CPU = torch.device("cpu")


def test_result_says_what_was_measured_on_what(finished: Path, scenes: Path, weights: Path) -> None:
    result = json.loads((finished / OUT).read_text())
    assert list(result["values"]) == list(protocol().values())
    assert all(0 <= value <= 100 for value in result["values"].values())
    assert result["protocol"] == protocol().model_dump(mode="json")
    test = open_detection_split(scenes, "val")
    assert result["dataset"]["splits"]["val"] == {
        "images": 3,
        "digest": test.images.digest,
        "annotations": test.digest,
    }
    _, source = read_converted(weights)
    assert result["weights"] == {"sha256": source.weights_sha256, "identity": source.identity}
    assert (result["part"], result["seed"], result["torch_threads"]) == ("trial-0", 0, 1)
    resolved = result["resolved"]
    assert (resolved["iterations"], resolved["images_per_batch"], resolved["lr"]) == (STEPS, 2, 0.02 * 2 / 16)
    assert resolved["backbone"] == "narrow_resnet18" and resolved["small_machine"]
    occasion = json.loads((finished / OUT).with_suffix(".run.json").read_text())
    assert occasion["seconds_per_step"] > 0 and occasion["device"] == "cpu"


def test_arrays_show_truth_and_detections(finished: Path, scenes: Path) -> None:
    arrays = np.load((finished / OUT).with_suffix(".npz"))
    truth = json.loads(open_detection_split(scenes, "val").annotations.read_text())
    classes = [category["name"] for category in truth["categories"]]
    assert arrays["classes"].tolist() == classes
    for name in ("precision", "mask_precision"):
        assert arrays[name].shape == (len(classes), len(arrays["recall"])) == (len(classes), 101)
    for place, image in enumerate(truth["images"][:2]):  # 2 of 3 at even distances: the first two
        objects = [item for item in truth["annotations"] if item["image_id"] == image["id"]]
        boxes = [[x, y, x + width, y + height] for x, y, width, height in (item["bbox"] for item in objects)]
        assert arrays[f"truth_boxes_{place}"].tolist() == boxes and arrays[f"truth_boxes_{place}"].dtype == np.float32
        assert arrays[f"truth_classes_{place}"].tolist() == [item["category_id"] - 1 for item in objects]
        masks = np.stack([decode_mask(item["segmentation"]) for item in objects])
        np.testing.assert_array_equal(arrays[f"truth_masks_{place}"], masks)
        assert arrays[f"image_{place}"].shape == (96, 96, 3) and arrays[f"image_{place}"].dtype == np.uint8
        found = len(arrays[f"found_scores_{place}"])  # none, perhaps, after so few steps
        assert arrays[f"found_boxes_{place}"].shape == (found, 4)
        assert arrays[f"found_masks_{place}"].shape == (found, 96, 96)
        assert arrays[f"found_masks_{place}"].dtype == bool
        assert arrays[f"found_classes_{place}"].shape == (found,)


class Finder(torch.nn.Module):
    """Finds `numbers[i]` things in image i, with rising scores up to `best[i]` and masks in the upper half."""

    def __init__(self, numbers: list[int], best: list[float]) -> None:
        super().__init__()
        self.answers = iter(zip(numbers, best, strict=True))

    def forward(self, inputs: list[Record]) -> list[Record]:
        (number, best), size = next(self.answers), (inputs[0]["height"], inputs[0]["width"])
        found = Instances(size)
        found.pred_boxes = Boxes(torch.arange(4.0 * number).reshape(number, 4))
        found.scores = torch.linspace(0.3, best, number)
        found.pred_classes = torch.arange(number) % 3
        found.pred_masks = torch.zeros(number, *size, dtype=torch.bool)
        found.pred_masks[:, : size[0] // 2] = True
        return [{"instances": found}]


def test_of_what_was_found_the_certain_is_shown_or_else_the_best(scenes: Path, weights: Path) -> None:
    opened = trial(scenes, weights)
    images = EvaluationImages(opened.test.records, opened.cfg)
    arrays = figure_arrays(
        Finder([30, 5, 0], [0.9, 0.4, 0.0]), images, opened.test, opened.cfg, 5
    )  # the split has three
    scores = torch.linspace(0.3, 0.9, 30)
    assert arrays["found_scores_0"].tolist() == scores.flip(0)[:20].tolist()
    assert arrays["found_boxes_0"][0].tolist() == [116, 117, 118, 119]
    assert arrays["found_classes_0"][:4].tolist() == [2, 1, 0, 2]
    assert arrays["found_masks_0"].shape == (20, 96, 96) and arrays["found_masks_0"][:, :48].all()
    assert arrays["found_scores_1"] == pytest.approx([0.4])
    assert [arrays[f"found_{name}_2"].shape for name in ("boxes", "scores", "masks")] == [(0, 4), (0,), (0, 96, 96)]
    assert "image_3" not in arrays


def test_large_images_are_shown_smaller() -> None:
    assert (
        figure_size(600, 1024) == (300, 512) and figure_size(512, 40) == (512, 40) and figure_size(5000, 3) == (512, 1)
    )


def test_boxes_alone_are_measured_as_voc_does(
    scenes: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    short = protocol("voc_faster_rcnn_c4", small_machine={**small_detector.SMALL, "iterations": 2, "precise_bn": 1})
    run(scenes, weights, short)
    result = json.loads(OUT.read_text())
    assert list(result["values"]) == ["ap", "ap50", "ap75"]
    arrays = np.load(OUT.with_suffix(".npz"))
    assert "found_boxes_1" in arrays and not [name for name in arrays.files if "mask" in name]
    assert list(Path("runs").glob("some-run-detection-trial-0-*/devkit/Annotations/000003.xml"))


def test_killed_and_resumed(
    scenes: Path, weights: Path, tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-W", "ignore", small_detector.__file__, str(scenes), str(weights)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    while len(checkpoints(tmp_path)) < 2 and process.poll() is None:
        time.sleep(0.002)
    process.kill()
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, stderr
    assert not (tmp_path / OUT).exists()
    assert f"step-{STEPS:09d}" not in checkpoints(tmp_path)[-1].name
    assert len(checkpoints(tmp_path)) == 2
    monkeypatch.chdir(tmp_path)
    run(scenes, weights, workers=1)
    assert_same_outcome(tmp_path, finished)


def test_terminated_and_resumed(
    scenes: Path, weights: Path, tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    get = TrainingBatches.__getitem__

    def then_terminate(self: TrainingBatches, step: int) -> list[Record]:
        if step == 3:
            signal.raise_signal(signal.SIGTERM)
        return get(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingBatches, "__getitem__", then_terminate)
        with pytest.raises(ScfsError, match=f"^stopped by SIGTERM at step 4 of {STEPS}; start again to resume there$"):
            run(scenes, weights)
    assert [path.name.split("-")[1] for path in checkpoints(tmp_path)] == ["000000004"] and not OUT.exists()
    run(scenes, weights)
    assert_same_outcome(tmp_path, finished)


def test_only_one_process_trains_a_trial(
    scenes: Path, weights: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished)
    folder = checkpoints(finished)[0].parents[1]
    with run_lock(folder), pytest.raises(ScfsError, match="another process is training this run"):
        run(scenes, weights)


def test_checkpoints_of_another_trial_are_refused_with_what_differs(
    scenes: Path, weights: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished)
    folder = checkpoints(finished)[0].parents[1]
    monkeypatch.setattr(stage, "run_folder", lambda name, identity: folder)
    with pytest.raises(
        ScfsError, match=r", protocol\.box_head = '2fc' and not '4conv1fc', .*seed = 0 and not 1; go back"
    ):
        run(scenes, weights, protocol(box_head="4conv1fc", seed=1))


def trial(scenes: Path, weights: Path, **more: object):
    return open_trial(protocol(**more), "trial-0", "some-run", weights, scenes, CPU, threads=1)


def test_identity_holds_what_the_training_depends_on(scenes: Path, weights: Path) -> None:
    whole = trial(scenes, weights).identity
    assert len(whole) == len(identity("detect", {}))
    assert trial(scenes, weights, trials=3, figure_images=1).identity == whole
    assert trial(scenes, weights, box_head="4conv1fc").identity != whole
    assert trial(scenes, weights, seed=1).identity != whole
    second = open_trial(protocol(trials=2), "trial-1", "some-run", weights, scenes, CPU, threads=1)
    assert second.seed == 1 and second.identity == trial(scenes, weights, seed=1).identity


def test_a_rate_that_explodes_is_one_line(scenes: Path, weights: Path, tmp_path: Path) -> None:
    opened = trial(scenes, weights)
    training = DetectorTraining(opened.cfg, 0, "some", weights)
    training.scheduler.base_lrs = [1e12 for _ in training.scheduler.base_lrs]
    training.optimizer.param_groups[0]["lr"] = 1e12
    data = TrainingBatches(opened.train.records, opened.cfg, 0)
    with pytest.raises(
        ScfsError, match=r"^training diverged at step 0: the weights exploded; .*loss_mask .*, lr 1e\+12$"
    ):
        train(training, data, tmp_path, save_every=0)
    assert not list(tmp_path.rglob("*.pt"))  # nothing that one could not go on from was saved
    losses = "loss_cls .*, loss_box_reg .*, loss_mask .*, loss_rpn_cls .*, loss_rpn_loc .*"
    with pytest.raises(ScfsError, match=rf"^training diverged at step [12]: .*{losses}, lr 1e\+12$"):
        train(training, data, tmp_path, save_every=1000)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, r"^w\.pkl: .*'stem\.conv1\.weight' has numbers that are not finite"),
        (3e38, "^training diverged at step 0: .*lr 0"),
    ],
)
def test_weights_that_are_no_numbers_or_lead_to_none_are_one_line(
    value: float, message: str, scenes: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content = load(weights)
    content["model"]["stem.conv1.weight"] = np.full_like(content["model"]["stem.conv1.weight"], value)
    Path("w.pkl").write_bytes(dump(content))
    with pytest.raises(ScfsError, match=message):
        run(scenes, Path("w.pkl"))


def test_weights_of_another_depth_are_one_line(scenes: Path, weights: Path, tmp_path: Path) -> None:
    content = load(weights)
    content["scfs"]["architecture"] = "resnet34"
    (tmp_path / "deeper.pkl").write_bytes(dump(content))
    opened = trial(scenes, tmp_path / "deeper.pkl")
    with pytest.raises(ScfsError, match="resnet34 does not fit the detector"):
        DetectorTraining(opened.cfg, 0, "some", tmp_path / "deeper.pkl")


def test_a_part_that_the_protocol_does_not_have(scenes: Path, weights: Path) -> None:
    with pytest.raises(ScfsError, match=r"part 'trial-1': not among \['trial-0'\]"):
        run(scenes, weights, part="trial-1")
