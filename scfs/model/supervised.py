"""Supervised training: cross-entropy of a linear classifier with the labels, for all crops of an image alike."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scfs.config.pretrain import Pretrain
from scfs.model.backbones.registry import build_backbone, image_feature, student_maps


class ClassifyingEncoder(nn.Module):
    """A backbone and a linear classifier on its image feature."""

    def __init__(self, backbone: nn.Module, channels: dict[str, int], classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = nn.Linear(channels["layer4"], classes)


class Supervised(nn.Module):
    """Takes SCFS's place in the training loop. The teacher learns nothing of its own: it is the student's average."""

    def __init__(self, student: ClassifyingEncoder) -> None:
        super().__init__()
        self.student = student
        self.teacher = copy.deepcopy(student).requires_grad_(False)
        self.world_fraction = 1.0

    @classmethod
    def build(cls, settings: Pretrain, classes: int) -> "Supervised":
        """Make the model with weights drawn from the run's seed."""
        devices: list[int] = []
        with torch.random.fork_rng(devices):
            torch.manual_seed(settings.seed)
            backbone = build_backbone(settings.backbone)
            return cls(ClassifyingEncoder(backbone, backbone.channels, classes))

    def forward(
        self, global_crops: Tensor, local_crops: Tensor | None, labels: Tensor, drop_path: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Losses of a batch.

        Args:
            global_crops: (2*B, 3, S, S), crop-major.
            local_crops: (N*B, 3, s, s), crop-major; None for N = 0.
            labels: the images' classes, (B,).
            drop_path: see `scfs.model.backbones.drop_path`, ((2 + N)*B, blocks, 2).

        Returns:
            Scalars: `loss`, the same as `loss_data`, and `accuracy` in percent; means over all crops.
        """
        maps = student_maps(self.student.backbone, global_crops, local_crops, drop_path)
        logits = self.student.classifier(torch.cat([image_feature(part) for part in maps if part is not None]))
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        of_crops = labels.repeat(len(logits) // len(labels))
        loss = F.cross_entropy(logits, of_crops)
        accuracy = 100 * (logits.detach().argmax(1) == of_crops).to(logits.dtype).mean()
        return {"loss": loss, "loss_data": loss, "accuracy": accuracy}

    def update_center(self) -> None:
        """There are no centres."""

    @torch.no_grad()
    def update_teacher(self, momentum: float) -> None:
        """Move the teacher towards the student: parameters, and BatchNorm's statistics, as it never sees an image."""
        torch._foreach_lerp_(list(self.teacher.parameters()), list(self.student.parameters()), 1 - momentum)
        for ours, theirs in zip(self.teacher.buffers(), self.student.buffers(), strict=True):
            if ours.is_floating_point():
                ours.lerp_(theirs, 1 - momentum)
            else:
                ours.copy_(theirs)
