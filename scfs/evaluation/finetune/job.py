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
from scfs.evaluation.finetune.accuracy import measure
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
class Occasion:
    """What the stages of one fine-tuning have in common."""

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
        """What the results of the stages have in common; the same bytes wherever and whenever they are made."""
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

    def about(self, seconds: float) -> dict[str, Any]:
        """What is true of this execution alone, but for the seconds, which all executions took together."""
        return {
            "device": str(self.device),
            "workers": self.workers,
            "processes": self.world.size,
            "seconds": round(seconds, 1),
        }


@contextmanager
def occasion(
    protocol: FineTune,
    evaluation: str,
    run: str,
    weights: Path,
    manifest: Path,
    threads: int,
    device: str,
    workers: int,
    save_every: float,
) -> Iterator[Occasion]:
    """Meet the other processes, if there are any, and open the data.

    Raises:
        ScfsError: the device is not there, or see `labelled_data`.
    """
    chosen = prepare_process(threads, device)
    precision = resolve_precision(protocol.precision, chosen, protocol.crop)
    with collectives.process_group(chosen) as world:
        data = labelled_data(protocol, manifest)
        yield Occasion(protocol, evaluation, run, weights, data, threads, chosen, precision, workers, save_every, world)


def fine_tune(
    now: Occasion, part: str, lr: float, weight_decay: float, train: ImageSet, test: ImageSet
) -> dict[str, Any] | None:
    """Train on some images and test on others, going on where an earlier execution stopped.

    A finished training leaves its outcome in its folder, and no state: a grid of large networks would fill a disk.

    Args:
        now: the occasion.
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
    backbone, _ = load_backbone(now.weights, now.protocol.weights)
    data = CropBatches(train, now.protocol, now.world)
    own = _identity(now, lr, weight_decay, train, test)
    folder = run_folder(f"{now.run}-{now.evaluation}-{part}", own)
    with hold_run(folder, own):
        left = folder / "outcome.json"
        found = json.loads(left.read_text()) if collectives.is_first() and left.is_file() else None
        outcome: dict[str, Any] | None = collectives.broadcast_object(found)
        if outcome is not None:
            log(f"{folder}: already finished")
            return outcome if collectives.is_first() else None
        training = FineTuning(now.protocol, lr, weight_decay, backbone, data, now.device, now.precision, own)
        _log_start(now, part, training, data, folder)
        training.resume(folder)
        try:
            _train(training, data, folder, now.workers, now.save_every)
            values, diverged = measure(training.model, now.protocol, test, now.device, now.workers), None
            shown = ", ".join(f"{name} {value:.2f}" for name, value in values.items())
            log(f"{now.run}, {now.evaluation}, {part}: on {len(test)} images of {test.split}: {shown}")
        except DivergedError as error:
            log(f"{now.run}, {now.evaluation}, {part}: {error}")
            values, diverged = {}, {"step": error.step, "loss": f"{error.terms['loss']:.6g}", "lr": error.lr}
        if not collectives.is_first():
            return None
        outcome = {"values": values, "seconds": training.seconds(), **({"diverged": diverged} if diverged else {})}
        write_json(left, outcome)
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        return outcome


def _identity(now: Occasion, lr: float, weight_decay: float, train: ImageSet, test: ImageSet) -> str:
    """Of one training: the rest of the grid, and what else the data set has, do not matter to it."""
    parameters = {
        "protocol": now.protocol.model_dump(mode="json", exclude=ELSEWHERE),
        "lr": lr,
        "weight_decay": weight_decay,
        "torch_threads": now.threads,
        "precision": now.precision,
        "device": now.device.type,
    }
    inputs = {"weights": sha256_of(now.weights), "train": train.digest, "test": test.digest}
    return identity("finetune", parameters, inputs)


def _train(training: FineTuning, data: CropBatches, folder: Path, workers: int, save_every: float) -> None:
    """Train from where it stands to the last step."""
    parts = training.protocol.accumulate
    made = prefetch(data, range(training.step * parts, training.total * parts), workers, training.device.type == "cuda")
    training.run(zip(*[made] * parts, strict=True), folder, save_every)


def _log_start(now: Occasion, part: str, training: FineTuning, data: CropBatches, folder: Path) -> None:
    """Log what will happen before it does."""
    protocol = now.protocol
    decay = training.optimizer.param_groups[0]["weight_decay"]
    log(
        f"{now.run}, {now.evaluation}, {part}: {len(data.images)} images of {len(data.images.classes)} classes,"
        f" batch {protocol.batch}, {data.steps} steps = {data.steps / data.steps_per_epoch:.1f} passes,"
        f" peak lr {training.peak:g}, weight decay {decay:g}, {now.device}, {now.precision}, seed {protocol.seed};"
        f" state in {folder}"
    )
    log_sharing(now.run, protocol.batch, protocol.accumulate)
