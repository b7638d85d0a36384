"""Several processes that train one detector (gloo; each is a fork, as starting Detectron2 anew takes long)."""

import multiprocessing
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from small_detector import SMALL, protocol, train

from scfs.detection.batches import EvaluationImages, TrainingBatches
from scfs.detection.inference import predict
from scfs.detection.metrics import CocoMetric
from scfs.detection.stage import detect, open_trial
from scfs.detection.training import DetectorTraining
from scfs.errors import ScfsError
from scfs.runtime import collectives

pytestmark = pytest.mark.detectron2

CPU = torch.device("cpu")
SHORT = protocol(small_machine={**SMALL, "iterations": 3})


def trained(scenes: Path, weights: Path, folder: Path) -> dict[str, Any]:
    """Train, resuming where `folder` stands; the state, and what all of the processes together find."""
    torch.set_num_threads(1)
    with collectives.process_group(CPU) as world:
        trial = open_trial(SHORT, "trial-0", "some-run", weights, scenes, CPU, threads=1)
        trial.cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
        training = DetectorTraining(trial.cfg, 0, "some", weights)
        training.resume(folder)
        data = TrainingBatches(trial.train.records, trial.cfg, 0, world)
        train(training, data, folder, save_every=0)
        metric = CocoMetric(trial.test, masks=True)
        predict(training.model, EvaluationImages(trial.test.records, trial.cfg), 3, metric, workers=0)
        state: dict[str, Any] = training.model.state_dict()
        return {"state": state, "found": metric.predictions(), "terms": training.terms}


def in_processes(size: int, *arguments: Any) -> list[dict[str, Any]]:
    """What `trained` gives in each of `size` processes that meet."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    answers: Any = context.Queue()

    def work(rank: int) -> None:
        with pytest.MonkeyPatch.context() as patch:
            variables = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1"}
            for name, value in {**variables, "MASTER_PORT": port}.items():
                patch.setenv(name, str(value))
            found = trained(*arguments)
            answers.put((rank, {**found, "state": {key: value.numpy() for key, value in found["state"].items()}}))

    processes = [context.Process(target=work, args=(rank,)) for rank in range(size)]
    for process in processes:
        process.start()
    found = dict(answers.get(timeout=120) for _ in processes)
    for process in processes:
        process.join(timeout=20)
        assert process.exitcode == 0
    return [found[rank] for rank in range(size)]


def test_two_processes_train_one_detector_and_test_it_together(scenes: Path, weights: Path, tmp_path: Path) -> None:
    first, second = in_processes(2, scenes, weights, tmp_path)
    assert first["terms"] == second["terms"]
    assert not [name for name, value in first["state"].items() if (value != second["state"][name]).any()]
    saved = sorted((tmp_path / "checkpoints").glob("step-*.pt"))  # by the first alone
    assert [path.name.split("-")[1] for path in saved] == ["000000002", "000000003"]
    assert [image["image_id"] for image in first["found"]] == [1, 2, 3]
    assert [image["image_id"] for image in second["found"]] == [3]
    alone = trained(scenes, weights, tmp_path)  # has nothing left to train
    assert alone["found"] == first["found"]


def test_several_processes_need_a_gpu_each(
    scenes: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "RANK": "0",
        "WORLD_SIZE": "3",
        "LOCAL_RANK": "0",
        "MASTER_ADDR": "x",
        "MASTER_PORT": "1",
    }.items():
        monkeypatch.setenv(name, value)
    arguments = (protocol(), "detection", "trial-0", "some-run", weights, scenes, tmp_path / "trial-0.json")
    with pytest.raises(ScfsError, match="detection in 3 processes needs a GPU for each"):
        detect(*arguments, threads=1, device="cpu")
    monkeypatch.undo()
    with collectives.dry_run(3), pytest.raises(ScfsError, match="images_per_batch = 2: does not divide by 3 GPUs"):
        open_trial(protocol(), "trial-0", "some-run", weights, scenes, CPU, threads=1)
