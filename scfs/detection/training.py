"""Training of a detector: Detectron2's model, optimiser and schedule, in a loop that resumes exactly.

Detectron2's own trainer draws order, augmentation and proposals from generators that a checkpoint of it does not hold.
Here each of them is a function of seed and step.
"""

import scfs.detection.compat  # isort: skip  # noqa: F401

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler, build_optimizer
from detectron2.utils.events import EventStorage
from fvcore.nn.precise_bn import update_bn_stats

from scfs.detection.batches import HEADS, TrainingBatches, drawn_words
from scfs.detection.data import Record
from scfs.detection.weights import load_converted
from scfs.errors import ScfsError
from scfs.io.progress import PLAIN_LINE_SECONDS, log, track
from scfs.model.ops import synchronize_batch_norm
from scfs.runtime import collectives
from scfs.runtime.gradient_allreduce import GradientAllReduce
from scfs.runtime.stop_signals import stop_signals
from scfs.training.checkpointing import Keeper, check_identity
from scfs.training.loop import EXPLODED
from scfs.views.workers import prefetch


class Training:
    """Model, optimiser and position of one training.

    Args:
        cfg: Detectron2's configuration.
        seed: seed of the heads' initial weights and of the proposals that their losses sample.
        identity: of the run; a checkpoint of another one is refused.
        converted: the encoder's weights.

    Raises:
        ScfsError: the weights cannot be read or do not fit (scfs.detection.weights).
    """

    def __init__(self, cfg: CfgNode, seed: int, identity: str, converted: Path) -> None:
        torch.manual_seed(seed)
        model = build_model(cfg)
        load_converted(model, converted)
        self.optimizer = build_optimizer(cfg, model)
        self.scheduler = build_lr_scheduler(cfg, self.optimizer)
        self.model = synchronize_batch_norm(model, torch.device(cfg.MODEL.DEVICE)).train()
        self.gradient_allreduce = GradientAllReduce(self.model.parameters())
        self.seed, self.identity, self.total = seed, identity, cfg.SOLVER.MAX_ITER
        self.step = 0
        self.terms: dict[str, float] = {}
        self._started, self._seconds_before = time.monotonic(), 0.0

    @property
    def rate(self) -> float:
        """Learning rate of the next step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def seconds(self) -> float:
        """Seconds that the training has taken, all its executions together."""
        return self._seconds_before + time.monotonic() - self._started

    def train_step(self, inputs: list[Record]) -> None:
        """Losses, gradients, update; `terms` are then the step's losses.

        Raises:
            ScfsError: a loss is NaN or infinite.
        """
        self.draw_heads(self.step)
        try:
            losses = self.model(inputs)
        except FloatingPointError as error:  # of the proposals, before there are losses
            raise self._diverged(f"{error} In the step before: ") from None
        share = 1 / collectives.world().size
        self.terms = {
            name: float(term)
            for name, term in collectives.all_reduce_weighted({n: t.detach() for n, t in losses.items()}, share).items()
        }
        if not all(math.isfinite(term) for term in self.terms.values()):
            raise self._diverged()
        self.optimizer.zero_grad()
        with self.gradient_allreduce.during_backward():
            (sum(losses.values()) * share).backward()
        self.optimizer.step()
        self.scheduler.step()
        self.step += 1

    def draw_heads(self, step: int) -> None:
        """Let what the heads sample in a step depend on seed and step alone."""
        low, high, *_ = drawn_words(self.seed, step, collectives.world().rank, HEADS)
        torch.manual_seed(high << 32 | low)

    def _diverged(self, what: str = "") -> ScfsError:
        terms = ", ".join(f"{name} {term:.6g}" for name, term in self.terms.items()) or "no losses yet"
        return ScfsError(f"training diverged at step {self.step}: {what}{terms}, lr {self.rate:.6g}")

    def check_finite(self) -> None:
        """Hold the weights to what may be saved.

        Raises:
            ScfsError: they have exploded.
        """
        norms = torch.stack(torch._foreach_norm(list(self.model.parameters())))
        if not bool((norms < EXPLODED).all()):  # false for NaN too
            raise self._diverged("the weights exploded; before the last update: ")

    def state(self) -> dict[str, Any]:
        """Everything that an exact resume needs; order and draws follow from seed and step."""
        return {
            "identity": self.identity,
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "seconds": self.seconds(),
        }

    def restore(self, state: dict[str, Any], source: Path) -> None:
        """Take over a checkpoint's state.

        Raises:
            ScfsError: it belongs to another training.
        """
        check_identity(state, self.identity, source)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.step, self._seconds_before = state["step"], state["seconds"]


def train(training: Training, data: TrainingBatches, folder: Path, *, workers: int, save_every: float) -> float | None:
    """Train from where the training stands to its last step.

    Args:
        training: resumed; it is at its last step afterwards.
        data: batches by step.
        folder: checkpoints go here.
        workers: processes that make batches; 0: this one.
        save_every: seconds between checkpoints.

    Returns:
        Seconds per step of this execution; None if there was nothing left to do.

    Raises:
        ScfsError: the losses diverge, the disk is full, an image cannot be read, or the process was asked to stop
            (after saving).
    """
    first, total = training.step, training.total
    if first == total:
        log(f"already at its last step, {total}: nothing is left to train")
        return None
    if first:
        log(f"resuming at step {first} of {total}")
    keeper = Keeper(folder, save_every)
    started = said = time.monotonic()
    try:
        with stop_signals() as received, EventStorage(first) as storage:
            for inputs in prefetch(data, range(first, total), workers):
                storage.iter = training.step
                training.train_step(inputs)
                now = time.monotonic()
                if now - said >= PLAIN_LINE_SECONDS:
                    said = now
                    log(_progress(training, (now - started) / (training.step - first)))
                keeper.after_step(training, total, received)
    finally:
        keeper.checkpoints.wait()
    return (time.monotonic() - started) / (total - first)


def _progress(training: Training, seconds: float) -> str:
    terms = ", ".join(f"{name} {term:.3f}" for name, term in training.terms.items())
    loss = sum(training.terms.values())
    step = f"{training.step}/{training.total}"
    return f"detect: {step} steps, {seconds:.2f} s/step, loss {loss:.3f} ({terms}), lr {training.rate:.3g}"


def estimate_bn(training: Training, data: TrainingBatches, batches: int, workers: int) -> None:
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

    with EventStorage(training.total):
        try:
            update_bn_stats(training.model, drawn(), batches)
        except FloatingPointError as error:
            raise ScfsError(f"training diverged by step {training.total}: {error}") from None
