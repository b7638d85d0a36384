"""Work of trainings and encoders, counted by torch on the real modules without computing anything (device meta)."""

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from scfs.config.pretrain import Pretrain
from scfs.costs.machine import Work
from scfs.model.backbones.registry import build_backbone
from scfs.runtime import collectives
from scfs.training.memory import bytes_of, countable, meta_model, meta_step

BATCH = 2
"""Images that are counted with: the least that BatchNorm takes."""
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
    return _training_work(countable(settings), messages)


@cache
def _training_work(settings: Pretrain, messages: bool) -> Work:
    model = meta_model(settings)
    state = model.state_dict()
    moments = 2 if settings.optimizer.name == "adamw" else 1
    student = bytes_of(p for p in model.get_submodule("student").parameters() if p.requires_grad)
    with FlopCounterMode(display=False) as flops, _Counted() as counted:
        meta_step(model, settings, BATCH)
    return Work(
        flops=flops.get_total_flops() / BATCH,
        traffic=2 * counted.elements / BATCH,
        kernels=counted.operations,
        messages=sent_messages(settings) if messages else (),
        weights=bytes_of(tensor for name, tensor in state.items() if name.startswith(("student.", "teacher."))),
        states=KEPT * (bytes_of(state.values()) + moments * student) if settings.epochs else 0,
    )


def sent_messages(settings: Pretrain) -> tuple[tuple[str, int], ...]:
    """Note the collectives of a step: kind, and bytes that each process gives."""
    with collectives.dry_run(2) as sent:
        meta_step(meta_model(settings), settings, BATCH)
    return tuple(sent)


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
        return bytes_of(build_backbone(backbone).state_dict().values())
