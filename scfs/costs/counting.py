"""Work of trainings and encoders, counted by torch on the real modules without computing anything (device meta)."""

from collections.abc import Iterable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from scfs.config.pretrain import Pretrain
from scfs.costs.machine import Work
from scfs.model.backbones.registry import build_backbone
from scfs.model.methods import Crops, Method, build_method
from scfs.model.ops.batch_norm import synchronize_batch_norm
from scfs.runtime import collectives
from scfs.runtime.gradient_allreduce import GradientAllReduce
from scfs.views.augmentation import GLOBAL_NUMBER

BATCH = 2
"""Images that are counted with: the least that BatchNorm takes."""
CLASSES = 1000
"""unsourced: classes of a supervised run; what they add is far below a thousandth."""
KEPT = 2
"""Newest states that a training keeps."""


class _Counted(TorchDispatchMode):
    """Elements that operations read and write, and the number of operations; views are none."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.operations += 1
            touched = torch.utils._pytree.tree_leaves((args, kwargs, result))
            self.elements += sum(value.numel() for value in touched if isinstance(value, Tensor))
        return result


def training_work(settings: Pretrain, messages: bool = False) -> Work:
    """Count one step up to the optimiser: the student forward and backward, the teacher forward, all heads.

    Its parts (`accumulate`) are taken for one. With `messages` also the collectives of several processes.
    """
    # What makes no difference to the count is made equal, so that runs that differ by it are counted once.
    return _training_work(settings.model_copy(update={"seed": 0, "dataset": "", "split": ""}), messages)


@cache
def _training_work(settings: Pretrain, messages: bool) -> Work:
    model = _model(settings)
    state = model.state_dict()
    moments = 2 if settings.optimizer.name == "adamw" else 1
    student = _bytes(p for p in model.get_submodule("student").parameters() if p.requires_grad)
    with FlopCounterMode(display=False) as flops, _Counted() as counted:
        _step(model, settings)
    return Work(
        flops=flops.get_total_flops() / BATCH,
        traffic=2 * counted.elements / BATCH,
        kernels=counted.operations,
        messages=sent_messages(settings) if messages else (),
        weights=_bytes(tensor for name, tensor in state.items() if name.startswith(("student.", "teacher."))),
        states=KEPT * (_bytes(state.values()) + moments * student) if settings.epochs else 0,
    )


def sent_messages(settings: Pretrain) -> tuple[tuple[str, int], ...]:
    """Note the collectives of a step: kind, and bytes that each process gives."""
    with collectives.dry_run(2) as sent:
        _step(_model(settings), settings)
    return tuple(sent)


def _model(settings: Pretrain) -> Method:
    """Build the model of a training without memory."""
    with torch.device("meta"):
        return build_method(settings, CLASSES).train()


def _step(model: Method, settings: Pretrain) -> None:
    """Take one step of `BATCH` images up to the optimiser."""
    model, views = synchronize_batch_norm(model, torch.device("cpu")), settings.views
    with torch.device("meta"):
        global_crops = torch.empty(GLOBAL_NUMBER * BATCH, 3, views.global_size, views.global_size)
        number = views.local_number
        local_crops = torch.empty(number * BATCH, 3, views.local_size, views.local_size) if number else None
        crop_boxes = torch.zeros(GLOBAL_NUMBER + number, BATCH, 5, dtype=torch.int32)
        labels = torch.zeros(BATCH, dtype=torch.int64) if settings.learns_from_labels else None
        crops = Crops(global_crops, local_crops, crop_boxes, labels=labels)
        terms = model(crops, settings.loss.teacher_temperature[0])
        with GradientAllReduce(model.get_submodule("student").parameters()).during_backward():
            terms["loss"].backward()
        collectives.all_reduce_weighted({name: term.detach() for name, term in terms.items()}, 1.0)
        model.update_center()


@cache
def forward_flops(backbone: str, size: int) -> float:
    """Count the operations of a frozen backbone for an image of `size` pixels."""
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        build_backbone(backbone).eval()(torch.empty(1, 3, size, size))
    return float(counter.get_total_flops())


@cache
def backbone_bytes(backbone: str) -> int:
    """Count the bytes of a backbone's weights."""
    with torch.device("meta"):
        return _bytes(build_backbone(backbone).state_dict().values())


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
