"""The base of pre-training methods, as the training loop sees them, and the registry of all methods."""

import copy
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from scfs.config.methods import METHODS, MethodSpec
from scfs.config.pretrain import Pretrain
from scfs.config.registry import Registry
from scfs.model import ops
from scfs.model.backbones.base import Network
from scfs.model.backbones.registry import build_backbone


class Method(nn.Module):
    """A student that is trained and its teacher. Called with the crops of a batch it returns the terms of the loss.

    The student has the submodule `backbone`. A subclass builds it and defines `forward`; the other methods are hooks.
    """

    def __init__(self, student: nn.Module, classes: int) -> None:
        """Take the student, of which the teacher is a copy, and the number of classes of the softmax in the loss."""
        super().__init__()
        self.student = student
        self.teacher = copy.deepcopy(student).requires_grad_(False)
        self.classes = classes
        self.world_fraction = 1.0
        """Share of the batch's images that this process has: its terms are means, which weighted so add up."""
        self.side_stream: ops.SideStream | None = None
        """Where the teacher's maps may be computed beside the student's; None: one after the other."""

    @classmethod
    def build(cls, settings: Pretrain, classes: int = 0) -> "Method":
        """Make the model with weights that are drawn from the run's seed.

        Args:
            settings: the run's.
            classes: number of classes of the split's labels, for methods that learn from them.
        """
        devices: list[int] = []
        with torch.random.fork_rng(devices):
            torch.manual_seed(settings.seed)
            return cls.from_backbone(build_backbone(settings.backbone), settings, classes)

    @classmethod
    def from_backbone(cls, backbone: Network, settings: Pretrain, classes: int) -> "Method":
        """Make the model around a backbone."""
        raise NotImplementedError

    def forward(
        self,
        global_crops: Tensor,
        local_crops: Tensor | None,
        teacher_temperature: float,
        crop_boxes: Tensor | None = None,
        drop_path: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Compute the terms of a batch.

        Args:
            global_crops: (2*B, 3, S, S), crop-major.
            local_crops: (N*B, 3, s, s), crop-major; None for N = 0.
            teacher_temperature: tau' of this epoch.
            crop_boxes: where the crops lie in their images, (2 + N, B, 5), see `scfs.views.loader.Batch`.
            drop_path: see `scfs.model.backbones.drop_path`, ((2 + N)*B, blocks, 2); for the student alone, as in DINO.
            labels: classes of the images, (B,); None if the method does not learn from them.

        Returns:
            Scalars: `loss`, of which the gradient is taken, `loss_data`, and what else is to be recorded.
        """
        raise NotImplementedError

    def update_center(self) -> None:
        """Update what follows from the outputs of an optimiser step's batch; called after its last backward pass."""

    def drop_gradients(self, epoch: int) -> None:
        """Remove gradients that must not be used in an epoch (from 0); called after clipping."""

    @torch.no_grad()
    def update_teacher(self, momentum: float) -> None:
        """Move the teacher's parameters towards the student's; buffers stay the teacher's own (authors' code)."""
        torch._foreach_lerp_(list(self.teacher.parameters()), list(self.student.parameters()), 1 - momentum)

    def state_terms(self) -> dict[str, Tensor]:
        """Return the scalars of the model's state to record after a step."""
        return {}


MODELS: Registry[type[Method]] = Registry("method")
"""The class of each method of `METHODS`."""
Added = TypeVar("Added", bound=type[Method])


def add_method(name: str, spec: MethodSpec) -> Callable[[Added], Added]:
    """Make a decorator that adds a class as a pre-training method: for modules outside this package."""
    METHODS.add(name)(spec)
    return MODELS.add(name)
