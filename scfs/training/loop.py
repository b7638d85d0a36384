"""The pre-training loop: one code path for CPU and GPU. All that changes from step to step is in `state()`."""

import time
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scfs.config.pretrain import Pretrain
from scfs.errors import ScfsError
from scfs.io.progress import log, track
from scfs.model.backbones.drop_path import drop_path_factors
from scfs.model.ops import SideStream, compile_backbone, synchronize_batch_norm
from scfs.model.scfs import SCFS
from scfs.model.supervised import Supervised
from scfs.runtime import collectives
from scfs.runtime.gradient_allreduce import GradientAllReduce
from scfs.runtime.stop_signals import stop_signals
from scfs.training.checkpointing import Keeper, check_identity
from scfs.training.metrics import Monitor, Rates
from scfs.training.optimizer import build_optimizer, clip_each
from scfs.training.scalars import Scalars
from scfs.training.schedules import Schedules
from scfs.views.colour_batched import augment_batch
from scfs.views.images import normalize
from scfs.views.loader import Batch, ViewBatches, batches

EXPLODED = 1e8  # norm of a parameter that no training comes back from
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Labels(NamedTuple):
    """What the images show."""

    of_rows: Tensor
    """Class of each image of the set, (n,) int64."""
    classes: int
    """How many there are."""


class Training:
    """Model, optimiser and position of one run; the method supervised needs `labels`.

    `activation_checkpointing`, `compile` and `side_stream`: see the modules of these names in scfs/model/ops.
    """

    def __init__(
        self,
        settings: Pretrain,
        steps_per_epoch: int,
        device: torch.device,
        precision: str,
        identity: str,
        labels: Labels | None = None,
        activation_checkpointing: bool = False,
        compile: bool = False,
        side_stream: bool = False,
    ) -> None:
        self.settings, self.device, self.precision, self.identity = settings, device, precision, identity
        self.schedules = Schedules(settings, steps_per_epoch)
        self.dtype = torch.float64 if precision == "fp64" else torch.float32  # fp64 is for tests
        model = SCFS.build(settings) if labels is None else Supervised.build(settings, labels.classes)
        self.model = (
            synchronize_batch_norm(model, device, compile)
            .to(device, self.dtype)
            .to(memory_format=torch.channels_last)
            .train()
        )
        backbone: Any = self.model.student.backbone
        backbone.activation_checkpointing = activation_checkpointing
        for encoder in self.model.children() if compile else ():
            compile_backbone(encoder.get_submodule("backbone"))
        if side_stream and isinstance(self.model, SCFS):
            self.model.side_stream = SideStream(device)
        self.labels = None if labels is None else labels.of_rows.to(device)
        self.optimizer = build_optimizer(self.model.student, settings.optimizer)
        self.gradient_allreduce = GradientAllReduce(self.model.student.parameters())
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self.monitor = Monitor(
            steps_per_epoch, labels.classes if labels else settings.head.prototypes, self.schedules.lr
        )
        self.step = 0
        self._started, self._seconds_before = time.monotonic(), 0.0

    def seconds(self) -> float:
        """Seconds that the run has taken, all its executions together."""
        return self._seconds_before + time.monotonic() - self._started

    def train_step(self, batch: Batch) -> dict[str, Tensor]:
        """One optimiser step: losses, clipping, update, the teacher's moving average."""
        schedules, step = self.schedules, self.step
        self._set_rates()
        self.optimizer.zero_grad(set_to_none=True)
        parts = batch.parts(self.settings.accumulate)
        self.model.world_fraction = share = len(batch.rows) / self.settings.batch
        terms = [self._accumulate(part, share / len(parts)) for part in parts[:-1]]
        with self.gradient_allreduce.during_backward():
            terms.append(self._accumulate(parts[-1], share / len(parts)))
        self.model.update_center()
        self.scaler.unscale_(self.optimizer)
        if self.settings.optimizer.clip:
            clip_each(self.model.student.parameters(), self.settings.optimizer.clip)
        if isinstance(self.model, SCFS) and schedules.epoch(step) < self.settings.optimizer.freeze_last_layer:
            for parameter in self.model.student.head.last_layer.parameters():
                parameter.grad = None
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.model.update_teacher(schedules.teacher_momentum(step))
        self.step += 1
        means = {name: torch.stack([part[name] for part in terms]).mean() for name in terms[0]}
        means = collectives.all_reduce_weighted(means, share)
        if isinstance(self.model, SCFS):
            means["center_norm"] = torch.linalg.vector_norm(self.model.get_buffer("center"))
        return means

    def _set_rates(self) -> None:
        decayed = self.optimizer.param_groups[0]
        decayed["weight_decay"] = self.schedules.weight_decay(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedules.lr(self.step)

    def _accumulate(self, batch: Batch, weight: float) -> dict[str, Tensor]:
        """Add the gradients of a part of the batch; returns its terms."""
        with torch.autocast(self.device.type, AUTOCAST.get(self.precision), enabled=self.precision in AUTOCAST):
            global_numbers, local_numbers = (None, None) if batch.colour is None else batch.colour.tensor_split([2])
            crops = (
                self._images(batch.global_crops, global_numbers),
                None if batch.local_crops is None else self._images(batch.local_crops, local_numbers),
            )
            if self.labels is not None:
                terms = self.model(*crops, self.labels[batch.rows.to(self.device)], self._drop_path(batch))
            else:
                temperature = self.schedules.teacher_temperature(self.step)
                crop_boxes = None if batch.crop_boxes is None else batch.crop_boxes.to(self.device, non_blocking=True)
                terms = self.model(*crops, temperature, crop_boxes, self._drop_path(batch))
        self.scaler.scale(terms["loss"] * weight).backward()
        return {name: term.detach() for name, term in terms.items()}

    def _drop_path(self, batch: Batch) -> Tensor | None:
        """Factors of the student's residual branches for the batch's crops; None where nothing is left out."""
        largest = self.settings.drop_path
        if not largest:
            return None
        views = 2 + self.settings.views.local_number
        blocks = len(list(self.model.student.backbone.get_submodule("blocks").children()))
        return drop_path_factors(self.settings.seed, self.step, batch.rows, views, blocks, largest, self.device)

    def _images(self, crops: Tensor, numbers: Tensor | None = None) -> Tensor:
        """Normalised, and augmented if that is still to be done."""
        crops = crops.to(self.device, non_blocking=True)
        if numbers is None:
            return normalize(crops, self.dtype)
        return augment_batch(crops, numbers.flatten(0, 1).to(self.device, non_blocking=True), self.dtype)

    def state(self) -> dict[str, Any]:
        """Everything that an exact resume needs; the sampler's position is the step, and views follow from it."""
        return {
            "identity": self.identity,
            "step": self.step,
            "model": self.model.state_dict(),  # student, teacher and all centres
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "monitor": self.monitor.state(),
            "rng": torch.get_rng_state(),
            "seconds": self.seconds(),
        }

    def check_finite(self) -> None:
        """Hold the state to what may be saved: finite terms so far, and weights that have not exploded.

        Raises:
            ScfsError: names the step, the last terms and the learning rate.
        """
        self.monitor.fetch()
        norms = torch.stack(torch._foreach_norm(list(self.model.parameters())))
        if not bool((norms < EXPLODED).all()):  # false for NaN too
            terms = ", ".join(f"{name} {value:.6g}" for name, value in self.monitor.latest.items())
            lr = self.schedules.lr(self.step - 1)
            raise ScfsError(f"training diverged at step {self.step - 1}: the weights exploded; {terms}, lr {lr:.6g}")

    def restore(self, state: dict[str, Any], source: Path) -> None:
        """Take over a checkpoint's state.

        Raises:
            ScfsError: it belongs to another run, or its tensors do not fit this architecture.
        """
        check_identity(state, self.identity, source)
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.scaler.load_state_dict(state["scaler"])
        except (RuntimeError, ValueError) as error:
            raise ScfsError(f"{source}: its checkpoint does not fit this architecture: {error}") from None
        self.monitor.restore(state["monitor"])
        torch.set_rng_state(state["rng"])
        self.step = state["step"]
        self._seconds_before = state["seconds"]


def train(training: Training, data: ViewBatches, folder: Path, *, workers: int, save_every: float) -> dict[str, float]:
    """Train from where the run stands to its last step.

    Args:
        training: the run, resumed; it is at its last step afterwards.
        data: batches by step.
        folder: checkpoints, TensorBoard and DVCLive go here.
        workers: processes that make batches; 0: this one.
        save_every: seconds between checkpoints.

    Returns:
        images_per_second and data_wait_share of this execution (empty if there was nothing left to do).

    Raises:
        ScfsError: the losses diverge, the disk is full, or the process was asked to stop (after saving).
    """
    first, total = training.step, training.schedules.total
    if first == total:
        log(f"already at its last step, {total}: nothing is left to train")
        return {}
    if first:
        log(f"resuming at step {first} of {total}")
    keeper = Keeper(folder, save_every)
    rates, overall = Rates(data.batch), Rates(data.batch)
    stream = track(
        batches(data, first, workers, training.device.type == "cuda"), "pretrain", unit="step", total=total - first
    )
    asked, first_process = time.monotonic(), collectives.is_first()
    with stop_signals() as received, closing(Scalars(folder, first)) if first_process else nullcontext() as scalars:
        for batch in stream:
            waited = time.monotonic() - asked
            rates.waited(waited)
            overall.waited(waited)
            terms = training.train_step(batch)
            if training.monitor.record(batch.step, terms) and scalars:
                lr = training.schedules.lr(batch.step)
                scalars.write(batch.step, {**training.monitor.latest, "lr": lr, **rates.take()})
            keeper.after_step(training, total, received)
            asked = time.monotonic()
        keeper.checkpoints.wait()
    return overall.take()
