"""The base of pre-training methods, as the training loop sees them, and the registry of all methods."""

import copy
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from scfs.config.methods import METHODS, MethodSpec
from scfs.config.pretrain import Pretrain
from scfs.config.registry import Registry
from scfs.model.backbones.base import Network
from scfs.model.backbones.registry import Maps
from scfs.model.ops.side_stream import SideStream


class Crops(NamedTuple):
    """The crops of a batch, or of a part of it, of B images with N local crops each."""

    global_crops: Tensor
    """(2*B, 3, S, S), crop-major."""
    local_crops: Tensor | None = None
    """(N*B, 3, s, s), crop-major; None for N = 0."""
    boxes: Tensor | None = None
    """Where the crops lie in their images, (2 + N, B, 5), see `scfs.views.loader.Batch`."""
    drop_path: Tensor | None = None
    """See `scfs.model.backbones.drop_path`, ((2 + N)*B, blocks, 2); for the student alone, as in DINO."""
    labels: Tensor | None = None
    """Classes of the images, (B,); None if the method does not learn from them."""


class Method(nn.Module):
    """A student that is trained and its teacher. Called with the crops of a batch it returns the terms of the loss.

    The student has the submodule `backbone`. A subclass is made of a backbone, the settings of the run and the number
    of classes of the split's labels, and it defines `forward`; the other methods are hooks.
    """

    def __init__(self, student: nn.Module, classes: int) -> None:
        """Take the student, of which the teacher is a copy, and the number of classes of the softmax in the loss."""
        super().__init__()
        self.student = student
        self.teacher = copy.deepcopy(student).requires_grad_(False)
        self.classes = classes
        self.world_fraction = 1.0
        """Share of the batch's images that this process has: its terms are means, which weighted so add up."""
        self.side_stream: SideStream | None = None
        """Where the teacher's maps may be computed beside the student's; None: one after the other."""
        self.observe: Callable[[Tensor, Tensor], None] | None = None
        """Called with the teacher's features (2*B, C) and probabilities (2*B, K) where there are any."""

    def forward(self, crops: Crops, teacher_temperature: float) -> dict[str, Tensor]:
        """Compute the terms of a batch.

        Args:
            crops: of the batch's images.
            teacher_temperature: tau' of this epoch.

        Returns:
            Scalars: `loss`, of which the gradient is taken, `loss_data`, and what else is to be recorded.
        """
        raise NotImplementedError

    def student_maps(self, crops: Crops) -> tuple[Maps, Maps | None]:
        """Compute the student's maps of global and local crops in two calls: BatchNorm sees them apart (authors')."""
        backbone, first = self.student.get_submodule("backbone"), len(crops.global_crops)
        factors = [()] * 2 if crops.drop_path is None else [(crops.drop_path[:first],), (crops.drop_path[first:],)]
        maps = backbone(crops.global_crops, *factors[0])
        return maps, None if crops.local_crops is None else backbone(crops.local_crops, *factors[1])

    def update_center(self) -> None:
        """Update what follows from the outputs of an optimiser step's batch; called after its last backward pass."""

    def drop_gradients(self, epochs_done: float) -> None:
        """Remove gradients that must not be used in an epoch (from 0); called after clipping."""

    @torch.no_grad()
    def update_teacher(self, momentum: float) -> None:
        """Move the teacher's parameters towards the student's; buffers stay the teacher's own (authors' code)."""
        torch._foreach_lerp_(list(self.teacher.parameters()), list(self.student.parameters()), 1 - momentum)

    def state_terms(self) -> dict[str, Tensor]:
        """Return the scalars of the model's state to record after a step."""
        return {}


Build = Callable[[Network, Pretrain, int], Method]
MODELS: Registry[Build] = Registry("method")
"""The class of each method of `METHODS`."""
Added = TypeVar("Added", bound=Build)


def add_method(name: str, spec: MethodSpec) -> Callable[[Added], Added]:
    """Make a decorator that adds a class as a pre-training method: for modules outside this package."""
    METHODS.add(name)(spec)
    return MODELS.add(name)
