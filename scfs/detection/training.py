"""Training of a detector: Detectron2's model, optimiser and schedule, in a loop that resumes exactly.

Detectron2's own trainer draws order, augmentation and proposals from generators that a checkpoint of it does not hold.
Here each of them is a function of seed and step.
"""

import scfs.detection.compat  # isort: skip  # noqa: F401

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler, build_optimizer
from detectron2.utils.events import EventStorage, get_event_storage
from fvcore.nn.precise_bn import update_bn_stats
from torch import Tensor, nn

from scfs.detection.batches import HEADS, TrainingBatches, random_words
from scfs.detection.data import Record
from scfs.detection.weights import load_converted
from scfs.errors import refusing
from scfs.io.progress import track
from scfs.model.ops.batch_norm import synchronize_batch_norm
from scfs.runtime import collectives
from scfs.training.base import Training
from scfs.views.workers import prefetch


class DetectorTraining(Training):
    """Model, optimiser and position of the training of a detector."""

    task = "detect"

    def __init__(self, cfg: CfgNode, seed: int, identity: str, converted: Path) -> None:
        """Start from the weights of an encoder.

        Args:
            cfg: Detectron2's configuration.
            seed: seed of the heads' initial weights and of the proposals that their losses sample.
            identity: identity of the training; a checkpoint of another one is refused.
            converted: the encoder's weights.

        Raises:
            ScfsError: the weights cannot be read or do not fit (scfs.detection.weights).
        """
        super().__init__(identity, cfg.SOLVER.MAX_ITER, torch.device(cfg.MODEL.DEVICE))
        self.seed = seed
        torch.manual_seed(seed)
        model: nn.Module = build_model(cfg)
        load_converted(model, converted)
        optimizer = build_optimizer(cfg, model)
        self.scheduler = build_lr_scheduler(cfg, optimizer)
        self.set_model(synchronize_batch_norm(model, self.device).train(), optimizer)

    def lr(self, step: int) -> float:
        """Learning rate of the next step, whichever `step` is: Detectron2's schedule has a state."""
        return float(self.optimizer.param_groups[0]["lr"])

    def train_step(self, batch: list[Record]) -> dict[str, Tensor]:
        """Do one step: losses, gradients, update.

        Raises:
            DivergedError: a loss is NaN or infinite.
        """
        self.draw_heads(self.step)
        try:
            terms = self.backward([batch], 1 / collectives.world().size)
        except FloatingPointError as error:  # raised for the proposals, before there are losses
            raise self.diverged(self.step, f"{error} In the step before: ") from None
        self.terms = {name: float(term) for name, term in terms.items()}
        if not all(math.isfinite(term) for term in self.terms.values()):
            raise self.diverged(self.step)
        self.optimizer.step()
        self.scheduler.step()
        self.step += 1
        return terms

    def losses(self, part: list[Record]) -> dict[str, Tensor]:
        """Compute Detectron2's losses, and their sum."""
        get_event_storage().iter = self.step
        losses: dict[str, Tensor] = self.model(part)
        return {"loss": sum(losses.values(), torch.zeros(())), **losses}

    @contextmanager
    def while_running(self, folder: Path) -> Iterator[None]:
        """Give Detectron2's models the event storage that they write to."""
        with EventStorage(self.step):
            yield

    def note(self) -> str:
        """Show the latest losses and the learning rate."""
        return ", ".join(f"{name} {value:.3g}" for name, value in {**self.terms, "lr": self.lr(self.step)}.items())

    def stateful(self) -> dict[str, Any]:
        """Add the schedule; order and draws follow from seed and step."""
        return {**super().stateful(), "scheduler": self.scheduler}

    def draw_heads(self, step: int) -> None:
        """Seed torch's global generator, so that what the heads sample depends on seed and step alone."""
        low, high, *_ = random_words(self.seed, step, collectives.world().rank, HEADS)
        torch.manual_seed(high << 32 | low)


def estimate_bn(training: DetectorTraining, data: TrainingBatches, batches: int, workers: int) -> None:
    """Replace BatchNorm's running statistics by those of the final weights over the batches that come next (PreciseBN).

    Source: fvcore's update_bn_stats, as Detectron2 uses it after the last step.

    Raises:
        ScfsError: an image cannot be read, or the proposals are NaN.
    """
    steps = range(training.total, training.total + batches)

    def drawn() -> Iterator[list[Record]]:
        read = track(prefetch(data, steps, workers), "detect: BatchNorm's statistics", unit="batches", total=batches)
        for step, inputs in zip(steps, read, strict=True):
            training.draw_heads(step)
            yield inputs

    with refusing(f"training diverged by step {training.total}", FloatingPointError), EventStorage(training.total):
        update_bn_stats(training.model, drawn(), batches)
