"""One fine-tuning from weights to accuracies: started, resumed, or taken from what a finished one left."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from scfs.config.finetune import FineTune
from scfs.config.identity import STAGE_VERSIONS, identity
from scfs.data.image_set import ImageSet
from scfs.evaluation.finetune.accuracy import evaluate
from scfs.evaluation.finetune.crops import CropBatches
from scfs.evaluation.finetune.labelled import LabelledData, labelled_data
from scfs.evaluation.finetune.training import FineTuning
from scfs.io.atomic import write_json
from scfs.io.progress import log
from scfs.io.results import sha256_of
from scfs.paths import run_folder
from scfs.runtime import collectives
from scfs.runtime.device import resolve_precision
from scfs.runtime.world import World
from scfs.training.base import hold_run, log_sharing, prepare_process
from scfs.training.metrics import DivergedError
from scfs.views.workers import prefetch
from scfs.weights.store import load_backbone

ELSEWHERE = {"lr", "weight_decay", "metric", "dataset", "train", "test", "labels", "validation"}
"""Keys of a protocol that an identity does not have: rate and decay stand in it, and the images are in digests."""


@dataclass(frozen=True)
class Setup:
    """The inputs that all trainings of one fine-tuning share."""

    protocol: FineTune
    evaluation: str
    """Its name in the study."""
    run: str
    weights: Path
    data: LabelledData
    threads: int
    device: torch.device
    precision: str
    workers: int
    save_every: float
    world: World

    def record(self) -> dict[str, Any]:
        """Make the part that all results share; the same bytes wherever and whenever it is made."""
        source = load_backbone(self.weights, self.protocol.weights)[1]
        splits = {images.split: {"images": len(images), "digest": images.digest} for images in self.data.splits}
        whole, validation = self.data.whole, self.data.validation
        return {
            "run": self.run,
            "evaluation": self.protocol.kind,
            "protocol": self.protocol.model_dump(mode="json"),
            "dataset": {"name": self.protocol.dataset, "splits": splits},
            "labelled": {"images": len(whole), "digest": whole.digest, "validation": len(validation or ())},
            "weights": {"sha256": sha256_of(self.weights), "identity": source.identity},
            "settings": source.settings,
            "stage_version": STAGE_VERSIONS["finetune"],
            "torch_threads": self.threads,
            "precision": self.precision,
        }

    def run_metadata(self, seconds: float) -> dict[str, Any]:
        """Return metadata of this execution; `seconds` adds up all executions."""
        return {
            "device": str(self.device),
            "workers": self.workers,
            "processes": self.world.size,
            "seconds": round(seconds, 1),
        }


@contextmanager
def open_setup(
    protocol: FineTune,
    evaluation: str,
    run: str,
    weights: Path,
    manifest: Path,
    *,
    threads: int,
    device: str = "auto",
    workers: int = 0,
    save_every: float = 120,
) -> Iterator[Setup]:
    """Join the other processes, if there are any, and open the data.

    Args:
        protocol, evaluation, run, weights, manifest: see `scfs.evaluation.finetune.stage.tune`.
        threads: torch threads; sums depend on it.
        device: "auto", "cpu" or "cuda".
        workers: processes that read images.
        save_every: seconds between checkpoints.

    Raises:
        ScfsError: the device is not there, or see `labelled_data`.
    """
    chosen = prepare_process(threads, device)
    precision = resolve_precision(protocol.precision, chosen, protocol.crop)
    with collectives.process_group(chosen) as world:
        data = labelled_data(protocol, manifest)
        yield Setup(protocol, evaluation, run, weights, data, threads, chosen, precision, workers, save_every, world)


def fine_tune(
    setup: Setup, part: str, lr: float, weight_decay: float, train: ImageSet, test: ImageSet
) -> dict[str, Any] | None:
    """Train on some images and test on others, going on where an earlier execution stopped.

    A finished training leaves its outcome in its folder, and no state: a grid of large networks would fill a disk.

    Args:
        setup: protocol, weights and data.
        part: name of the training, for its folder.
        lr: learning rate per 256 images of a batch.
        weight_decay: before it is divided by that rate.
        train: images to train on.
        test: images to test on.

    Returns:
        `values`, accuracies in percent, empty if the training diverged; then `diverged` has the step, its loss (a word)
        and the rate; `seconds`. None in all processes but the first.

    Raises:
        ScfsError: the training was asked to stop (after saving), an image or the weights cannot be read, the disk is
            full, or another process does this training.
    """
    backbone, _ = load_backbone(setup.weights, setup.protocol.weights)
    data = CropBatches(train, setup.protocol, setup.world)
    own = _identity(setup, lr, weight_decay, train, test)
    folder = run_folder(f"{setup.run}-{setup.evaluation}-{part}", own)
    with hold_run(folder, own):
        left = folder / "outcome.json"
        found = json.loads(left.read_text()) if collectives.is_first() and left.is_file() else None
        outcome: dict[str, Any] | None = collectives.broadcast_object(found)
        if outcome is not None:
            log(f"{folder}: already finished")
            return outcome if collectives.is_first() else None
        training = FineTuning(setup.protocol, lr, weight_decay, backbone, data, setup.device, setup.precision, own)
        _log_start(setup, part, training, data, folder)
        training.resume(folder)
        try:
            _train(training, data, folder, setup.workers, setup.save_every)
            values, diverged = evaluate(training.model, setup.protocol, test, setup.device, setup.workers), None
            shown = ", ".join(f"{name} {value:.2f}" for name, value in values.items())
            log(f"{setup.run}, {setup.evaluation}, {part}: on {len(test)} images of {test.split}: {shown}")
        except DivergedError as error:
            log(f"{setup.run}, {setup.evaluation}, {part}: {error}")
            values, diverged = {}, {"step": error.step, "loss": f"{error.terms['loss']:.6g}", "lr": error.lr}
        if not collectives.is_first():
            return None
        outcome = {"values": values, "seconds": training.seconds(), **({"diverged": diverged} if diverged else {})}
        write_json(left, outcome)
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        return outcome


def _identity(setup: Setup, lr: float, weight_decay: float, train: ImageSet, test: ImageSet) -> str:
    """Return the identity of one training; the rest of the grid, and of the data set, is no part of it."""
    parameters = {
        "protocol": setup.protocol.model_dump(mode="json", exclude=ELSEWHERE),
        "lr": lr,
        "weight_decay": weight_decay,
        "torch_threads": setup.threads,
        "precision": setup.precision,
        "device": setup.device.type,
    }
    inputs = {"weights": sha256_of(setup.weights), "train": train.digest, "test": test.digest}
    return identity("finetune", parameters, inputs)


def _train(training: FineTuning, data: CropBatches, folder: Path, workers: int, save_every: float) -> None:
    """Train from the current step to the last one."""
    parts = training.protocol.accumulate
    made = prefetch(data, range(training.step * parts, training.total * parts), workers, training.device.type == "cuda")
    training.run(zip(*[made] * parts, strict=True), folder, save_every)


def _log_start(setup: Setup, part: str, training: FineTuning, data: CropBatches, folder: Path) -> None:
    """Log what will happen before it does."""
    protocol = setup.protocol
    decay = training.optimizer.param_groups[0]["weight_decay"]
    log(
        f"{setup.run}, {setup.evaluation}, {part}: {len(data.images)} images of {len(data.images.classes)} classes,"
        f" batch {protocol.batch}, {data.steps} steps = {data.steps / data.steps_per_epoch:.1f} passes,"
        f" peak lr {training.peak:g}, weight decay {decay:g}, {setup.device}, {setup.precision}, seed {protocol.seed};"
        f" state in {folder}"
    )
    log_sharing(setup.run, protocol.batch, protocol.accumulate)
