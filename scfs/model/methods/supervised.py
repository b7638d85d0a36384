"""Supervised training: cross-entropy of a linear classifier with the labels, for all crops of an image alike."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scfs.config.pretrain import Pretrain
from scfs.model.backbones.base import Network
from scfs.model.backbones.registry import image_feature, student_maps
from scfs.model.methods.base import Method


class ClassifyingEncoder(nn.Module):
    """A backbone and a linear classifier on its image feature."""

    def __init__(self, backbone: nn.Module, channels: dict[str, int], classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = nn.Linear(channels["layer4"], classes)


class Supervised(Method):
    """Classification of all crops. The teacher learns nothing of its own: it is the student's moving average."""

    student: ClassifyingEncoder
    teacher: ClassifyingEncoder

    @classmethod
    def from_backbone(cls, backbone: Network, settings: Pretrain, classes: int) -> "Supervised":
        """Make student and teacher with a classifier for `classes` classes."""
        return cls(ClassifyingEncoder(backbone, backbone.channels, classes), classes)

    def forward(
        self,
        global_crops: Tensor,
        local_crops: Tensor | None,
        teacher_temperature: float,
        crop_boxes: Tensor | None = None,
        drop_path: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Compute the losses of a batch; see `Method.forward` for the arguments.

        Returns:
            Scalars: `loss`, the same as `loss_data`, and `accuracy` in percent; means over all crops.
        """
        assert labels is not None
        maps = student_maps(self.student.backbone, global_crops, local_crops, drop_path)
        logits = self.student.classifier(torch.cat([image_feature(part) for part in maps if part is not None]))
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        of_crops = labels.repeat(len(logits) // len(labels))
        loss = F.cross_entropy(logits, of_crops)
        accuracy = 100 * (logits.detach().argmax(1) == of_crops).to(logits.dtype).mean()
        return {"loss": loss, "loss_data": loss, "accuracy": accuracy}

    @torch.no_grad()
    def update_teacher(self, momentum: float) -> None:
        """Move the teacher towards the student: parameters, and BatchNorm's statistics, as it never sees an image."""
        super().update_teacher(momentum)
        for ours, theirs in zip(self.teacher.buffers(), self.student.buffers(), strict=True):
            if ours.is_floating_point():
                ours.lerp_(theirs, 1 - momentum)
            else:
                ours.copy_(theirs)
