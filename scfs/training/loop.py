"""The pre-training loop: one code path for CPU and GPU. All that changes from step to step is in `state()`."""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scfs.config.pretrain import Pretrain
from scfs.model.backbones.drop_path import drop_path_factors
from scfs.model.methods import Crops, Method, build_method
from scfs.model.ops.side_stream import SideStream
from scfs.runtime import collectives
from scfs.training.base import Training
from scfs.training.loggers import Loggers
from scfs.training.metrics import Metrics, Throughput, is_recorded
from scfs.training.optimizer import build_optimizer, clip_per_parameter, set_rates
from scfs.training.probes import Probes
from scfs.training.schedules import Schedules
from scfs.training.signs import Signs, advice, first_alarm
from scfs.views.colour_batched import augment_batch
from scfs.views.images import normalize
from scfs.views.loader import Batch, ViewBatches, batches
from scfs.weights.initial import Initial, start_from


class Labels(NamedTuple):
    """Classes of the images, for the methods that learn from them."""

    of_rows: Tensor
    """Class of each image of the set, (n,) int64."""
    classes: int
    """Number of classes."""


class TorchGenerator:
    """torch's global random generator, as a part of a checkpoint."""

    state_dict = staticmethod(torch.get_rng_state)
    load_state_dict = staticmethod(torch.set_rng_state)


class Pretraining(Training):
    """Model, optimiser and position of one run; the method supervised needs `labels`.

    `activation_checkpointing`, `compile` and `side_stream`: see the modules of these names in scfs/model/ops.
    """

    task = "pretrain"
    newer = ("signs", "probes")
    advice = (
        "give the old values (--set KEY=VALUE), choose another folder (--out; with --init its weights go on from there)"
        " or remove this one"
    )

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
        self.settings, self.schedules = settings, Schedules(settings, steps_per_epoch)
        super().__init__(identity, self.schedules.total, device, precision)
        model = build_method(settings, labels.classes if labels else 0)
        model = self.to_device(model, compile)
        backbone: Any = model.student.backbone
        backbone.activation_checkpointing = activation_checkpointing
        for encoder in model.children() if compile else ():  # at the first call with each size of images
            encoder.get_submodule("backbone").compile(dynamic=False, fullgraph=True)
        if side_stream:
            model.side_stream = SideStream(device)
        self.labels = None if labels is None else labels.of_rows.to(device)
        self.model: Method
        self.set_model(model, build_optimizer(model.student, settings.optimizer), model.student)
        self.metrics = Metrics(steps_per_epoch, model.classes, self.lr)
        own = max(1, settings.batch // collectives.world().size)
        self.signs = Signs(steps_per_epoch, own, settings.accumulate)
        self.model.observe = self.signs.observe if collectives.is_first() else None
        self.throughput = Throughput(settings.batch)
        self.loggers: Loggers | None = None
        self.probes: Probes | None = None
        self.log_to: Sequence[str] = ()
        """Further loggers, of `CHOSEN`."""
        self.frozen_steps = 0
        """Steps at the beginning in which the backbone is held."""

    def start_from(self, initial: Initial) -> list[str]:
        """Load the weights to start from into both encoders; return the heads that stay new, see `freeze_backbone`."""
        new = start_from(initial, self.model.student, self.model.teacher)
        held = self.settings.optimizer.freeze_backbone if new else 0
        self.frozen_steps = round(held * self.schedules.steps_per_epoch)
        return new

    def train_step(self, batch: Batch) -> dict[str, Tensor]:
        """Do one optimiser step: losses, gradients, clipping, update, and the moving averages of teacher and centres.

        Returns:
            Scalars: the terms of the losses, averaged over the whole batch.
        """
        settings, schedules = self.settings.optimizer, self.schedules
        set_rates(self.optimizer, settings, self.lr(self.step), schedules.weight_decay(self.step))
        self.model.world_fraction = fraction = len(batch.rows) / self.settings.batch
        terms = self.backward(batch.parts(self.settings.accumulate), fraction)
        self.model.update_center()
        self.scaler.unscale_(self.optimizer)
        if collectives.is_first() and is_recorded(self.step, schedules.steps_per_epoch):
            self.signs.measure(self.model.student.parameters())
        if settings.clip:
            clip_per_parameter(self.model.student.parameters(), settings.clip)
        self.model.drop_gradients(schedules.epochs_done(self.step))
        if self.step < self.frozen_steps:
            self.model.student.get_submodule("backbone").zero_grad(set_to_none=True)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.model.update_teacher(schedules.teacher_momentum(self.step))
        self.step += 1
        return {**terms, **self.model.state_terms()}

    def losses(self, part: Batch) -> dict[str, Tensor]:
        """Compute the terms of a part of the batch."""
        global_colour, local_colour = (None, None) if part.colour is None else part.colour.tensor_split([2])
        crops = Crops(
            self._images(part.global_crops, global_colour),
            None if part.local_crops is None else self._images(part.local_crops, local_colour),
            None if part.crop_boxes is None else part.crop_boxes.to(self.device, non_blocking=True),
            self._drop_path(part),
            None if self.labels is None else self.labels[part.rows.to(self.device)],
        )
        terms: dict[str, Tensor] = self.model(crops, self.schedules.teacher_temperature(self.step))
        return terms

    def lr(self, step: int) -> float:
        """Learning rate of a step."""
        return self.schedules.lr(step)

    def _drop_path(self, batch: Batch) -> Tensor | None:
        """Draw the factors of the student's residual branches; None where no branch is ever dropped."""
        largest = self.settings.drop_path
        if not largest:
            return None
        views = 2 + self.settings.views.local_number
        blocks = len(list(self.model.student.get_submodule("backbone.blocks").children()))
        rows = batch.rows.cpu().numpy()
        factors = drop_path_factors(self.settings.seed, self.step, rows, views, blocks, largest)
        return torch.from_numpy(factors).to(self.device)

    def _images(self, crops: Tensor, colour: Tensor | None = None) -> Tensor:
        """Normalise crops on the device, and augment their colours there if that is still to be done."""
        crops = crops.to(self.device, non_blocking=True)
        if colour is None:
            return normalize(crops, self.dtype)
        return augment_batch(crops, colour.flatten(0, 1).to(self.device, non_blocking=True), self.dtype)

    def record(self, terms: dict[str, Tensor]) -> None:
        """Add the terms to the metrics, send them to the loggers if the step is recorded, and probe if it is time.

        Raises:
            DivergedError: a term is not finite.
        """
        self._record(terms)
        self._probe()

    def _probe(self) -> None:
        if self.probes and self.probes.due(self.step):
            started = time.perf_counter()
            values = self.probes.run(self.step, self.model.teacher.get_submodule("backbone"), self.device)
            self.throughput.leave_out(time.perf_counter() - started)
            if self.loggers:
                self.loggers.log(max(0, self.step - 1), values)

    def _record(self, terms: dict[str, Tensor]) -> None:
        step, signs = self.step - 1, self.signs.latest
        if not self.metrics.record(step, terms, signs):
            return
        self.terms = self.metrics.latest
        if not collectives.is_first():
            return
        self.signs.record(step, self.terms)
        learns_from = self.settings.optimizer.freeze_last_layer * self.schedules.steps_per_epoch
        rule = self.signs.recorded, self.metrics.ln_k, self.total, learns_from
        if not self.metrics.warnings and (alarm := first_alarm(*rule)):
            change = advice(self.settings, alarm[1])
            self.metrics.warn(f"step {step + 1}: it may not be learning: {', '.join(alarm[1])}; to change: {change}")
        if self.loggers:
            self.loggers.log(step, {**self.terms, **signs, "lr": self.lr(step), **self.throughput.latest()})

    def note(self) -> str:
        """Show the epoch, the latest loss and rate, and the images per second of this execution in progress lines."""
        epoch = f"epoch {self.schedules.epoch(min(self.step, self.total - 1)) + 1}/{self.settings.epochs}"
        images = f"{self.throughput.overall()['images_per_second']:.0f} images/s"
        return ", ".join(filter(None, (epoch, super().note(), images)))

    @contextmanager
    def while_running(self, folder: Path) -> Iterator[None]:
        """Keep the loggers open, in the first process alone, and probe the weights to start from."""
        first = collectives.is_first()
        with closing(Loggers(folder, self.step, self.log_to)) if first else nullcontext() as self.loggers:
            self._probe()
            yield

    def stateful(self) -> dict[str, Any]:
        """Add the gradient scaler, the curves and the random generator; views and samples follow from the step."""
        watching = {"monitor": self.metrics, "signs": self.signs, **({"probes": self.probes} if self.probes else {})}
        return {**super().stateful(), "scaler": self.scaler, **watching, "rng": TorchGenerator}

    def check_finite(self) -> None:
        """Fetch the terms, and hold them and the weights to be finite.

        Raises:
            DivergedError: they are not.
        """
        self.metrics.fetch()
        self.terms = self.metrics.latest
        super().check_finite()


def train(training: Pretraining, data: ViewBatches, folder: Path, workers: int, save_every: float) -> dict[str, float]:
    """Train from where the run stands to its last step.

    Args:
        training: the run, resumed; it is at its last step afterwards.
        data: batches by step.
        folder: checkpoints and the files of the loggers go here.
        workers: processes that make batches; 0: this one.
        save_every: seconds between checkpoints.

    Returns:
        images_per_second and data_wait_share of this execution; empty if there was nothing left to do.

    Raises:
        ScfsError: see `Training.run`.
    """
    stream = batches(data, training.step, workers, training.device.type == "cuda")
    training.throughput = Throughput(data.batch)
    ran = training.run(training.throughput.timed(stream), folder, save_every)
    return training.throughput.overall() if ran else {}
