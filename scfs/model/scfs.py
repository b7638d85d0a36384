"""Student and teacher, and the losses of one batch (Fig. 2): DINO's data loss, and the search on every layer of V_L."""

import copy
from typing import cast

import torch
from torch import Tensor, nn

from scfs.config.pretrain import Pretrain
from scfs.losses import (
    data_loss,
    entropy,
    layer_global_loss,
    layer_loss,
    search_loss,
    teacher_probabilities,
    updated_center,
)
from scfs.model.heads import ProjectionHead, SearchHead
from scfs.model.resnet import Backbone, pooled
from scfs.model.search import attention_map, search_query, searched_features

Maps = dict[str, Tensor]


class Encoder(nn.Module):
    """A backbone, the projection head and a search head per searched layer."""

    def __init__(self, backbone: nn.Module, channels: dict[str, int], settings: Pretrain) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = ProjectionHead(channels["layer4"], settings.head)
        self.layers = settings.layers if settings.method == "scfs" else ()
        for layer in self.layers:
            setattr(self, f"{layer}_head", SearchHead(channels[layer], settings.search_head))

    def layer_head(self, layer: str) -> SearchHead:
        """Head H_i of a searched layer."""
        return cast(SearchHead, getattr(self, f"{layer}_head"))


class SCFS(nn.Module):
    """The whole method. Calling it with a batch gives every loss term and moves the centres on."""

    def __init__(self, student: Encoder, settings: Pretrain) -> None:
        super().__init__()
        self.student = student
        self.teacher = copy.deepcopy(student).requires_grad_(False)
        self.settings = settings.loss
        self.layers = student.layers
        self.register_buffer("center", torch.zeros(1, settings.head.prototypes))
        for layer in self.layers:
            self.register_buffer(f"{layer}_center", torch.zeros(1, settings.search_head.output))

    @classmethod
    def build(cls, settings: Pretrain) -> "SCFS":
        """Make model and centres with weights drawn from the run's seed."""
        devices: list[int] = []
        with torch.random.fork_rng(devices):
            torch.manual_seed(settings.seed)
            backbone = Backbone(settings.backbone)
            return cls(Encoder(backbone, backbone.channels, settings), settings)

    def forward(
        self, global_crops: Tensor, local_crops: Tensor | None, teacher_temperature: float
    ) -> dict[str, Tensor]:
        """Losses of a batch.

        Args:
            global_crops: (2*B, 3, S, S), crop-major.
            local_crops: (N*B, 3, s, s), crop-major; None for N = 0.
            teacher_temperature: tau' of this epoch.

        Returns:
            Scalars: `loss` (Eq. 11), its terms, and the teacher's entropy and centre norm.
        """
        # Two calls, so that BatchNorm sees global and local crops apart (authors' code).
        student_global = self.student.backbone(global_crops)
        student_local = None if local_crops is None else self.student.backbone(local_crops)
        with torch.no_grad():
            teacher_global = self.teacher.backbone(global_crops)
        return self.losses(student_global, student_local, teacher_global, teacher_temperature)

    def losses(
        self, student_global: Maps, student_local: Maps | None, teacher_global: Maps, teacher_temperature: float
    ) -> dict[str, Tensor]:
        """Losses from layer maps; see `forward`. Maps are (2*B | N*B | 2*B, C_i, H_i, W_i)."""
        terms = self._data_terms(student_global, student_local, teacher_global, teacher_temperature)
        total = terms["loss_data"]
        if student_local is not None:
            for layer in self.layers:
                global_term, search_term = self._layer_terms(
                    layer, student_global[layer], student_local[layer], teacher_global[layer], teacher_temperature
                )
                total = total + layer_loss(global_term, search_term)
                terms |= {f"loss_{layer}_global": global_term, f"loss_{layer}_search": search_term}
        return {"loss": total, **terms}

    def _data_terms(
        self, student_global: Maps, student_local: Maps | None, teacher_global: Maps, teacher_temperature: float
    ) -> dict[str, Tensor]:
        maps = [student_global] if student_local is None else [student_global, student_local]
        # One call of the head for all crops, as DINO does: it matters where the head has BatchNorm.
        logits = self.student.head(torch.cat([pooled(m["layer4"]) for m in maps]))
        center = self.get_buffer("center")
        with torch.no_grad():
            teacher_logits = self.teacher.head(pooled(teacher_global["layer4"]))
            targets = teacher_probabilities(teacher_logits, center, teacher_temperature)
        loss = data_loss(logits, targets, self.settings.student_temperature)
        self._move("center", teacher_logits)
        return {
            "loss_data": loss,
            "teacher_entropy": entropy(targets),
            "center_norm": torch.linalg.vector_norm(self.get_buffer("center")),
        }

    def _layer_terms(
        self,
        layer: str,
        student_global: Tensor,
        student_local: Tensor,
        teacher_global: Tensor,
        teacher_temperature: float,
    ) -> tuple[Tensor, Tensor]:
        """Global and search term of one layer (Eq. 5-9); the search looks at the first global crop (authors' code)."""
        head, temperature = self.student.layer_head(layer), self.settings.student_temperature
        outputs_global, outputs_local = head(student_global), head(student_local)
        with torch.no_grad():
            teacher_head = self.teacher.layer_head(layer)
            first_view = teacher_global[: len(teacher_global) // 2]
            B, C = first_view.shape[:2]
            query = search_query(student_local).view(-1, B, C).transpose(0, 1)  # B, N, C
            attention = attention_map(query, first_view)
            teacher_outputs = teacher_head(teacher_global)
            searched_outputs = teacher_head(searched_features(attention, first_view))
            targets = teacher_probabilities(teacher_outputs, self.get_buffer(f"{layer}_center"), teacher_temperature)
        self._move(f"{layer}_center", teacher_outputs)
        return (
            layer_global_loss(outputs_global, targets, temperature),
            search_loss(outputs_local, searched_outputs, temperature, teacher_temperature),
        )

    @torch.no_grad()
    def _move(self, name: str, teacher_outputs: Tensor) -> None:
        center = self.get_buffer(name)
        center.copy_(updated_center(center, teacher_outputs, self.settings.center_momentum))

    @torch.no_grad()
    def update_teacher(self, momentum: float) -> None:
        """Move the teacher's parameters towards the student's; buffers stay the teacher's own (authors' code)."""
        torch._foreach_lerp_(list(self.teacher.parameters()), list(self.student.parameters()), 1 - momentum)
