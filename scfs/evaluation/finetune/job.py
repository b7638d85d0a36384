"""One fine-tuning from weights to accuracies: started, resumed, or taken from what a finished one left."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from scfs.config.base import flattened
from scfs.config.finetune import FineTune
from scfs.config.identity import identity
from scfs.data.image_set import ImageSet
from scfs.evaluation.finetune.accuracy import evaluate
from scfs.evaluation.finetune.crops import CropBatches
from scfs.evaluation.finetune.training import FineTuning
from scfs.io.atomic import write_json
from scfs.io.progress import log
from scfs.paths import run_folder
from scfs.runtime import collectives
from scfs.runtime.world import World
from scfs.training.base import Execution, hold_run, log_sharing
from scfs.training.metrics import DivergedError
from scfs.views.workers import prefetch
from scfs.weights.store import load_backbone

ELSEWHERE = {"lr", "weight_decay", "metric", "dataset", "train", "test", "labels", "validation"}
"""Keys of a protocol that an identity does not have: rate and decay stand in it, and the images are in digests."""


@dataclass(frozen=True)
class Setup:
    """What all trainings of one fine-tuning share, but for the images."""

    protocol: FineTune
    run: str
    evaluation: str
    """Its name in the study."""
    weights: Path
    record: dict[str, Any]
    """The part that all results share; the same bytes wherever and whenever it is made."""
    device: torch.device
    execution: Execution
    world: World


def fine_tune(
    setup: Setup, part: str, lr: float, weight_decay: float, train: ImageSet, test: ImageSet
) -> dict[str, Any]:
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
        and the rate; `seconds`.

    Raises:
        ScfsError: the training was asked to stop (after saving), an image or the weights cannot be read, the disk is
            full, or another process does this training.
    """
    backbone, precision = load_backbone(setup.weights, setup.protocol.weights)[0], setup.record["precision"]
    data = CropBatches(train, setup.protocol, setup.world)
    made_of = _made_of(setup, lr, weight_decay, train, test)
    own = identity("finetune", *made_of)
    folder, name = run_folder(f"{setup.run}-{setup.evaluation}-{part}", own), f"{setup.run}, {setup.evaluation}, {part}"
    with hold_run(folder, own):
        left = folder / "outcome.json"
        found = json.loads(left.read_text()) if collectives.is_first() and left.is_file() else None
        outcome: dict[str, Any] | None = collectives.broadcast_object(found)
        if outcome is not None:
            log(f"{folder}: already finished")
            return outcome
        training = FineTuning(setup.protocol, lr, weight_decay, backbone, data, setup.device, precision, own)
        training.made_of = flattened({**made_of[0], **made_of[1]})
        _log_start(setup, name, training, data, folder)
        training.resume(folder)
        parts = setup.protocol.accumulate
        indices, on_gpu = range(training.step * parts, training.total * parts), setup.device.type == "cuda"
        made = prefetch(data, indices, setup.execution.workers, on_gpu)
        try:
            training.run(zip(*[made] * parts, strict=True), folder, setup.execution.save_every)
            outcome = {"values": evaluate(training.model, setup.protocol, test, setup.device, setup.execution.workers)}
            shown = ", ".join(f"{name} {value:.2f}" for name, value in outcome["values"].items())
            log(f"{name}: on {len(test)} images of {test.split}: {shown}")
        except DivergedError as error:
            log(f"{name}: {error}")
            diverged = {"step": error.step, "loss": f"{error.terms['loss']:.6g}", "lr": error.lr}
            outcome = {"values": {}, "diverged": diverged}
        outcome["seconds"] = training.seconds()
        if collectives.is_first():
            write_json(left, outcome)
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        return outcome


def _made_of(
    setup: Setup, lr: float, weight_decay: float, train: ImageSet, test: ImageSet
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return parameters and inputs of one training's identity, not the rest of the grid, and of the data set."""
    parameters = {
        "protocol": setup.protocol.model_dump(mode="json", exclude=ELSEWHERE),
        "lr": lr,
        "weight_decay": weight_decay,
        "torch_threads": setup.record["torch_threads"],
        "precision": setup.record["precision"],
        "device": setup.device.type,
    }
    inputs = {"weights": setup.record["weights"]["sha256"], "train": train.digest, "test": test.digest}
    return parameters, inputs


def _log_start(setup: Setup, name: str, training: FineTuning, data: CropBatches, folder: Path) -> None:
    """Log what will happen before it does."""
    protocol = setup.protocol
    decay = training.optimizer.param_groups[0]["weight_decay"]
    log(
        f"{name}: {len(data.images)} images of {len(data.images.classes)} classes,"
        f" batch {protocol.batch}, {data.steps} steps = {data.steps / data.steps_per_epoch:.1f} passes,"
        f" peak lr {training.peak:g}, weight decay {decay:g}, {setup.device}, {training.precision},"
        f" seed {protocol.seed}; state in {folder}"
    )
    log_sharing(setup.run, protocol.batch, protocol.accumulate)
