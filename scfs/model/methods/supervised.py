"""Supervised training: cross-entropy of a linear classifier with the labels, for all crops of an image alike."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scfs.config.pretrain import Pretrain
from scfs.model.backbones.base import Network
from scfs.model.backbones.registry import image_feature
from scfs.model.methods.base import Crops, Method


class ClassifyingEncoder(nn.Module):
    """A backbone and a linear classifier on its image feature."""

    def __init__(self, backbone: Network, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier = nn.Linear(backbone.channels["layer4"], classes)


class Supervised(Method):
    """Classification of all crops. The teacher learns nothing of its own: it is the student's moving average."""

    student: ClassifyingEncoder
    teacher: ClassifyingEncoder

    def __init__(self, backbone: Network, settings: Pretrain, classes: int) -> None:
        super().__init__(ClassifyingEncoder(backbone, classes), classes)

    def forward(self, crops: Crops, teacher_temperature: float) -> dict[str, Tensor]:
        """Compute the losses of a batch; see `Method.forward` for the arguments.

        Returns:
            Scalars: `loss`, the same as `loss_data`, and `accuracy` in percent; means over all crops.
        """
        assert crops.labels is not None
        maps = self.student_maps(crops)
        logits = self.student.classifier(torch.cat([image_feature(part) for part in maps if part is not None]))
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        of_crops = crops.labels.repeat(len(logits) // len(crops.labels))
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
