"""The memory that a training takes on its device, counted on the real modules without computing anything.

No GPU has confirmed the numbers. Not counted: CUDA itself, the workspaces of its libraries, and fragmentation; `USABLE`
leaves room for them. Attention is counted with its matrix, which fused kernels do not keep.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any
from weakref import finalize

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from scfs.config.pretrain import Loss, Optimizer, Pretrain, Views
from scfs.errors import ScfsError
from scfs.model.methods import Crops, Method, build_method
from scfs.model.ops.batch_norm import synchronize_batch_norm
from scfs.runtime import collectives
from scfs.runtime.gradient_allreduce import GradientAllReduce
from scfs.views.augmentation import GLOBAL_NUMBER

CLASSES = 1000
"""unsourced: classes of a supervised run; what they add is far below a thousandth."""
COUNTED = 64
"""Images that activations are counted with: so many that nothing else is at the peak."""
HALF = 0.6
"""unsourced: activations in bf16 or fp16 as a share of float32's: the maps are half, norms and losses are not. With all
of it in bf16 a ResNet-50 has 0.51 and a ViT-S 0.64."""
USABLE = 0.9
"""unsourced: share of a device's memory that is planned with."""


@dataclass(frozen=True)
class StepMemory:
    """Bytes of a training step on one device, in float32 but for the activations."""

    weights: int
    """Student."""
    heads: int
    """The part of it that is heads."""
    teacher: int
    """Teacher and centres."""
    optimizer: int
    """Gradients and the optimiser's moments."""
    activations: int
    """Of an image."""

    def of(self, images: int) -> int:
        """Return the bytes of a step whose parts have so many images on this device."""
        return self.weights + self.teacher + self.optimizer + images * self.activations

    def largest_part(self, batch: int, memory: float, processes: int = 1) -> int:
        """Return the most images of a part, in all processes, that fit `memory` bytes on each device; 0: none do."""
        parts = (part for part in range(batch, 0, -1) if batch % part == 0)
        return next((part for part in parts if self.of(-(-part // processes)) <= USABLE * memory), 0)


def _gb(size: float) -> str:
    return f"{size / 1e9:.2g} GB"


class _Peak(TorchDispatchMode):
    """Bytes of all tensors that operations made and that still live: now, and at most."""

    def __init__(self, given: Iterable[Tensor]) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known = {id(tensor.untyped_storage()) for tensor in given}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in torch.utils._pytree.tree_leaves(result):
            if isinstance(value, Tensor) and id(storage := value.untyped_storage()) not in self._known:
                self._known.add(id(storage))
                self.live += storage.nbytes()
                self.peak = max(self.peak, self.live)
                finalize(storage, self._free, id(storage), storage.nbytes())
        return result

    def _free(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


def step_memory(settings: Pretrain, checkpointing: bool = False) -> StepMemory:
    """Count a step: states, and the activations of the student, the teacher and all heads at their peak."""
    found, share = _step_memory(countable(settings), checkpointing), 1 if settings.precision == "fp32" else HALF
    return replace(found, activations=round(share * found.activations))


def countable(settings: Pretrain) -> Pretrain:
    """Make equal what makes no difference to a count, so that runs that differ by it are counted once."""
    views = {name: getattr(settings.views, name) for name in ("global_size", "local_size", "local_number")}
    same = {"seed": 0, "dataset": "", "split": "", "batch": 1, "accumulate": 1, "precision": "auto", "init": None}
    rest = {"views": Views(**views), "loss": Loss(), "optimizer": Optimizer(name=settings.optimizer.name)}
    return settings.model_copy(update={**same, **rest, "drop_path": 0.0, "epochs": min(settings.epochs, 1)})


@cache
def _step_memory(settings: Pretrain, checkpointing: bool) -> StepMemory:
    model = meta_model(settings)
    model.student.get_submodule("backbone").activation_checkpointing = checkpointing  # type: ignore[assignment]
    with _Peak(model.state_dict().values()) as counted:
        meta_step(model, settings, COUNTED)
    trained = bytes_of(p for p in model.student.parameters() if p.requires_grad)
    student = bytes_of(model.student.state_dict().values())
    heads = student - bytes_of(model.student.get_submodule("backbone").state_dict().values())
    rest, moments = bytes_of(model.state_dict().values()) - student, 2 if settings.optimizer.name == "adamw" else 1
    return StepMemory(student, heads, rest, trained * (1 + moments), counted.peak // COUNTED)


def meta_model(settings: Pretrain) -> Method:
    """Build the model of a training without memory."""
    with torch.device("meta"):
        return build_method(settings, CLASSES).train()


def meta_step(model: Method, settings: Pretrain, batch: int) -> None:
    """Take one step of `batch` images up to the optimiser, without computing anything."""
    model, views = synchronize_batch_norm(model, torch.device("cpu")), settings.views
    with torch.device("meta"):
        global_crops = torch.empty(GLOBAL_NUMBER * batch, 3, views.global_size, views.global_size)
        number = views.local_number
        local_crops = torch.empty(number * batch, 3, views.local_size, views.local_size) if number else None
        crop_boxes = torch.zeros(GLOBAL_NUMBER + number, batch, 5, dtype=torch.int32)
        labels = torch.zeros(batch, dtype=torch.int64) if settings.learns_from_labels else None
        crops = Crops(global_crops, local_crops, crop_boxes, labels=labels)
        terms = model(crops, settings.loss.teacher_temperature[0])
        with GradientAllReduce(model.get_submodule("student").parameters()).during_backward():
            terms["loss"].backward()
        collectives.all_reduce_weighted({name: term.detach() for name, term in terms.items()}, 1.0)
        model.update_center()


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Add up the bytes of tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def expected(settings: Pretrain, memory: float, checkpointing: bool, processes: int) -> str:
    """Say what a step takes on a device of so many bytes, and the largest part of the batch that fits there."""
    images = -(-settings.batch // settings.accumulate // processes)
    kept, less = (step_memory(settings, recomputed) for recomputed in (False, True))
    fitting = [one.largest_part(settings.batch, memory, processes) for one in (kept, less)]
    return (
        f"{_gb((less if checkpointing else kept).of(images))} of {_gb(memory)} (computed): weights {_gb(kept.weights)}"
        f" (heads {_gb(kept.heads)}), teacher {_gb(kept.teacher)}, gradients and optimiser {_gb(kept.optimizer)},"
        f" activations of {images} images {_gb(images * kept.activations)}, with --activation-checkpointing"
        f" {_gb(images * less.activations)}; of the batch's {settings.batch} images {fitting[0]} fit at a time, with it"
        f" {fitting[1]}"
    )


@contextmanager
def memory_advice(run: str, settings: Pretrain, memory: float, checkpointing: bool, processes: int) -> Iterator[None]:
    """Turn a device's lack of memory into one line that says what would fit.

    Raises:
        ScfsError: out of memory.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise ScfsError(
            f"{run}: out of memory: {expected(settings, memory, checkpointing, processes)}; accumulate=N computes a"
            " batch in N parts (BatchNorm sees a part), --activation-checkpointing gives the same result, and fewer or"
            " smaller crops need less"
        ) from None
