"""The stage `detect`: one trial of a detector, trained from a run's encoder, and its average precision."""

import scfs.detection.compat  # isort: skip  # noqa: F401

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data.build import filter_images_with_only_crowd_annotations

from scfs.config.base import flattened
from scfs.config.detection import Detection
from scfs.config.identity import STAGE_VERSIONS, identity
from scfs.data.opening import DetectionFiles, open_detection_split
from scfs.detection.batches import EvaluationImages, TrainingBatches
from scfs.detection.data import DetectionSplit, read_split
from scfs.detection.inference import Arrays, figure_arrays, predict
from scfs.detection.metrics import RECALLS, CocoMetric, Metric, Scores, VocMetric, write_devkit
from scfs.detection.recipes import build_config
from scfs.detection.training import DetectorTraining, estimate_bn
from scfs.detection.weights import Converted, read_converted
from scfs.errors import ScfsError
from scfs.io.atomic import write_arrays
from scfs.io.progress import log
from scfs.io.results import write_result
from scfs.paths import run_folder
from scfs.runtime import collectives
from scfs.runtime.world import find_world
from scfs.training.base import Execution, hold_run, prepare_process
from scfs.views.workers import prefetch


@dataclass(frozen=True)
class Trial:
    """A trial whose inputs are there and fit each other."""

    protocol: Detection
    part: str
    """Name of the trial, one of the protocol's parts."""
    run: str
    weights: Converted
    """Origin of the encoder that it starts from."""
    opened: dict[str, DetectionFiles]
    """Splits by name."""
    train: DetectionSplit
    test: DetectionSplit
    cfg: CfgNode
    """Detectron2's configuration for a single process."""
    threads: int
    """Torch threads."""

    @property
    def seed(self) -> int:
        """The protocol's seed, plus the number of the trial."""
        return self.protocol.seed + self.protocol.parts.index(self.part)

    @property
    def made_of(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Parameters and inputs of the identity, not the number of trials, nor what figures show."""
        parameters = {
            "protocol": self.protocol.model_dump(mode="json", exclude={"trials", "seed", "figure_images"}),
            "seed": self.seed,
            "torch_threads": self.threads,
            "device": self.cfg.MODEL.DEVICE,
            "detectron2": hashlib.sha256(self.cfg.dump().encode()).hexdigest(),
        }
        splits = {name: (split.images.digest, split.digest) for name, split in self.opened.items()}
        return parameters, {"weights": self.weights.weights_sha256, "splits": splits}

    @property
    def identity(self) -> str:
        """Identity of the training."""
        return identity("detect", *self.made_of)

    def record(self, scores: Scores) -> dict[str, Any]:
        """Make the result."""
        solver = self.cfg.SOLVER
        splits = {
            name: {"images": len(split.images), "digest": split.images.digest, "annotations": split.digest}
            for name, split in self.opened.items()
        }
        return {
            "run": self.run,
            "evaluation": self.protocol.kind,
            "part": self.part,
            "seed": self.seed,
            "values": scores.values,
            "protocol": self.protocol.model_dump(mode="json"),
            "dataset": {"name": self.protocol.dataset, "splits": splits},
            "weights": {"sha256": self.weights.weights_sha256, "identity": self.weights.identity},
            "stage_version": STAGE_VERSIONS["detect"],
            "torch_threads": self.threads,
            "resolved": {  # the recipe's numbers with the protocol's own in place of some
                "backbone": self.weights.architecture,
                "iterations": solver.MAX_ITER,
                "images_per_batch": solver.IMS_PER_BATCH,
                "lr": solver.BASE_LR,
                "steps": list(solver.STEPS),
                "warmup_iterations": solver.WARMUP_ITERS,
                "weight_decay": solver.WEIGHT_DECAY,
                "short_sides": list(self.cfg.INPUT.MIN_SIZE_TRAIN),
                "test_short_side": self.cfg.INPUT.MIN_SIZE_TEST,
                "small_machine": self.protocol.small_machine is not None,
            },
            "per_class": scores.per_class,
        }


def open_trial(
    protocol: Detection, part: str, run: str, converted: Path, manifest: Path, device: torch.device, threads: int
) -> Trial:
    """Read the splits and the origin of the weights, and resolve the recipe.

    Raises:
        ScfsError: no such trial; weights, data or recipe cannot be used, or do not fit each other or the processes.
    """
    if part not in protocol.parts:
        raise ScfsError(f"detection: part {part!r}: not among {list(protocol.parts)}")
    _, weights = read_converted(converted)
    opened = {name: open_detection_split(manifest, name) for name in protocol.splits}
    masks = protocol.benchmark == "coco"
    train, test = (read_split(opened[name], masks) for name in (protocol.train, protocol.test))
    if train.classes != test.classes:
        different = sorted(set(train.classes) ^ set(test.classes)) or "their order"
        raise ScfsError(f"{train.source} and {test.source} must have the same classes; they differ in {different}")
    resolve = (protocol, weights.architecture, len(train.classes), device.type)
    # Only to see that the batch divides; a SyncBN here would change the identity.
    build_config(*resolve, collectives.world().size)
    cfg = build_config(*resolve)
    cfg.INPUT.MASK_FORMAT = train.mask_format
    return Trial(protocol, part, run, weights, opened, train, test, cfg, threads)


def detect(
    protocol: Detection, evaluation: str, part: str, run: str, converted: Path, manifest: Path, out: Path, **how: Any
) -> None:
    """Train one trial, resuming where an earlier execution stopped, measure it, and write `out`, `.run.json`, `.npz`.

    Several processes (started by torchrun or SLURM, each with a GPU) share every batch; the first of them alone writes.
    Their number is not part of the identity.

    Args:
        protocol: what to train and measure.
        evaluation: its name in the study.
        part: which trial, one of the protocol's parts.
        run: name of the run that the encoder comes from.
        converted: its encoder, written by `scfs convert --to detectron2`.
        manifest: of the data set.
        out: path of the result; on a CPU, repeating the trial gives the same bytes.
        how: see `scfs.training.base.Execution`.

    Raises:
        ScfsError: weights, data or protocol do not allow it, the losses diverge, the disk is full, another process
            trains this trial, or the process was asked to stop (after saving).
    """
    execution = Execution(**how)
    device = prepare_process(execution.threads, execution.device)
    if (size := find_world().size) > 1 and device.type != "cuda":
        raise ScfsError(f"detection in {size} processes needs a GPU for each: start a single one on a CPU")
    with collectives.process_group(device):
        trial = open_trial(protocol, part, run, converted, manifest, device, execution.threads)
        folder = run_folder(f"{run}-{evaluation}-{part}", trial.identity)
        with hold_run(folder, trial.identity):
            metric, shown, times = _trained_and_tested(trial, folder, converted, execution)
            if not collectives.is_first():
                return
            scores = metric.scores()
            arrays = {"classes": np.array(trial.test.classes), "recall": RECALLS, **scores.precision, **shown}
            write_arrays(out.with_suffix(".npz"), arrays, compressed=True)
            used = {"device": str(device), "workers": execution.workers, "processes": size}
            write_result(out, trial.record(scores), {**used, **times})


def _log_start(trial: Trial, folder: Path) -> None:
    """Log what will happen before it does."""
    solver, small = trial.cfg.SOLVER, " on a small machine" if trial.protocol.small_machine else ""
    log(
        f"{trial.run}: {trial.protocol.recipe}{small}, {trial.part}, {trial.weights.architecture},"
        f" {len(trial.train.records)} images, {solver.IMS_PER_BATCH} per step, {solver.MAX_ITER} steps,"
        f" lr {solver.BASE_LR:g}, x {solver.GAMMA:g} at {list(solver.STEPS)}, {trial.cfg.MODEL.DEVICE},"
        f" seed {trial.seed}; state in {folder}"
    )


def _trained_and_tested(
    trial: Trial, folder: Path, converted: Path, execution: Execution
) -> tuple[Metric, Arrays, dict[str, float | None]]:
    """Train from where the folder stands, and test: predictions in a metric, arrays of figures, and times."""
    training = DetectorTraining(trial.cfg, trial.seed, trial.identity, converted)
    training.made_of = flattened({**trial.made_of[0], **trial.made_of[1]})
    _log_start(trial, folder)
    training.resume(folder)
    workers = execution.workers
    records = filter_images_with_only_crowd_annotations(trial.train.records)
    data = TrainingBatches(records, trial.cfg, trial.seed, collectives.world())
    batches = prefetch(data, range(training.step, training.total), workers)
    seconds_per_step = training.run(batches, folder, execution.save_every)
    seconds = round(training.seconds(), 1)
    if trial.cfg.TEST.PRECISE_BN.ENABLED:
        estimate_bn(training, data, trial.cfg.TEST.PRECISE_BN.NUM_ITER, workers)
    images, metric = EvaluationImages(trial.test.records, trial.cfg), _metric(trial, folder)
    predict(training.model, images, len(trial.test.records), metric, workers)
    first = collectives.is_first()
    shown = figure_arrays(training.model, images, trial.test, trial.cfg, trial.protocol.figure_images) if first else {}
    return metric, shown, {"training_seconds": seconds, "seconds_per_step": seconds_per_step}


def _metric(trial: Trial, folder: Path) -> Metric:
    if trial.protocol.benchmark == "coco":
        return CocoMetric(trial.test, masks=trial.cfg.MODEL.MASK_ON)
    metric = VocMetric(trial.test, folder / "devkit")
    if collectives.is_first():
        write_devkit(trial.test, folder / "devkit")
    return metric
