"""One pre-training step: ours against the authors' formulation (reference_step.py), from the same weights and crops."""

from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from benchmarks.measure import Call, Pair
from benchmarks.reference_step import ReferenceStep
from scfs.config.pretrain import Pretrain
from scfs.training.base import AUTOCAST
from scfs.training.loop import Pretraining
from scfs.views.images import normalize
from scfs.views.loader import Batch

CPU = torch.device("cpu")
STEPS_PER_EPOCH = 1000
FIRST = 15 * STEPS_PER_EPOCH
"""Past the warm-up and past the epoch in which the last layer is frozen."""


def settings(short: bool, device: torch.device = CPU) -> Pretrain:
    """The paper's model and crops, 4 images, of which a GPU gets 64; or a step of seconds."""
    if not short:
        return Pretrain(dataset="noise", batch=4 if device.type == "cpu" else 64)
    views = {"global_size": 96, "local_size": 64, "local_number": 4}
    return Pretrain.model_validate({"dataset": "noise", "batch": 2, "views": views, "head": {"prototypes": 4096}})


def batch_of(settings: Pretrain, seed: int = 0) -> Batch:
    """Crops of noise."""
    views, B = settings.views, settings.batch
    draw = partial(torch.randint, 0, 256, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    crops = [
        draw((number * B, size, size, 3))
        for number, size in ((2, views.global_size), (views.local_number, views.local_size))
    ]
    return Batch(FIRST, torch.arange(B), *crops)


def crops_of(batch: Batch, device: torch.device, dtype: torch.dtype) -> list[Tensor]:
    """Return the crops as the authors' loader would: each (B, 3, S, S), normalised, in memory as NCHW."""
    parts = [batch.global_crops, *([] if batch.local_crops is None else [batch.local_crops])]
    return [crop.contiguous() for part in parts for crop in normalize(part.to(device), dtype).split(len(batch.rows))]


Option = Literal["activation_checkpointing", "compile", "side_stream"]
"""A switch of `Pretraining`."""


def ours(settings: Pretrain, precision: str, device: torch.device, option: Option | None = None) -> Call:
    """A step of the training loop, from uint8 crops."""
    how: dict[str, Any] = {option: True} if option else {}
    training = Pretraining(settings, STEPS_PER_EPOCH, device, precision, "", **how)
    batch = batch_of(settings)

    def call() -> None:
        training.step = FIRST
        training.train_step(batch)
        training.optimizer.zero_grad(set_to_none=True)  # gradients are a step's memory, not what it leaves

    return call


def reference(settings: Pretrain, precision: str, device: torch.device) -> Call:
    """A step of the authors' loop, from normalised crops."""
    start = Pretraining(settings, STEPS_PER_EPOCH, CPU, "fp32", "")
    step = ReferenceStep(settings, start.model.state_dict(), device, torch.float32)
    schedules = start.schedules
    values = {
        "temperature": schedules.teacher_temperature(FIRST),
        "lr": schedules.lr(FIRST),
        "weight_decay": schedules.weight_decay(FIRST),
        "momentum": schedules.teacher_momentum(FIRST),
    }
    crops = crops_of(batch_of(settings), device, torch.float32)

    def call() -> None:
        step.step(crops, **values, frozen=False, autocast=AUTOCAST.get(precision))
        step.optimizer.zero_grad(set_to_none=True)

    return call


def pair(
    short: bool, device: torch.device, precision: str, reference_precision: str, option: Option | None = None
) -> Pair:
    """Both sides at their precisions; the option is ours alone."""
    chosen = settings(short, device)
    return Pair(ours(chosen, precision, device, option), reference(chosen, reference_precision, device))


def gain(short: bool, device: torch.device, precision: str, option: Option) -> Pair:
    """Ours with an option, beside ours without it."""
    chosen = settings(short, device)
    return Pair(ours(chosen, precision, device, option), ours(chosen, precision, device))
