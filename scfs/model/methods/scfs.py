"""DINO and SCFS (Fig. 2): the data loss, and the search on every layer of V_L; the rows of Table 7 are `method`."""

from contextlib import nullcontext
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from scfs.config.pretrain import Pretrain
from scfs.model import losses
from scfs.model.backbones.base import Network
from scfs.model.backbones.registry import Maps, image_feature
from scfs.model.heads import ProjectionHead, SearchHead
from scfs.model.losses import teacher_probabilities
from scfs.model.methods.base import Crops, Method
from scfs.model.ops.convolution import conv2d
from scfs.model.ops.prototype_loss import prototype_loss
from scfs.model.roi_crop import local_boxes, region_features, spatial_scale
from scfs.model.search import search, search_query, searched_outputs
from scfs.runtime import collectives

Boxes = tuple[Tensor, Tensor]
"""Result of `local_boxes`: (N, G, B, 4) pixels of a global crop, and which overlap with it, (N, G, B) bool."""


class BatchMaps(NamedTuple):
    """Layer maps of the crops of a batch."""

    student_global: Maps
    """(2*B, C_i, H_i, W_i) each."""
    student_local: Maps | None
    """(N*B, C_i, h_i, w_i) each; None for N = 0."""
    teacher_global: Maps
    """(2*B, C_i, H_i, W_i) each."""


class Encoder(nn.Module):
    """A backbone, the projection head and a search head per searched layer."""

    def __init__(self, backbone: Network, settings: Pretrain) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = ProjectionHead(backbone.channels["layer4"], settings.head)
        self.layers = settings.layers if settings.has_layer_heads else ()
        for layer in self.layers:
            setattr(self, f"{layer}_head", SearchHead(backbone.channels[layer], settings.search_head))

    def layer_head(self, layer: str) -> SearchHead:
        """Return the head H_i of a searched layer."""
        return cast(SearchHead, getattr(self, f"{layer}_head"))


class SCFS(Method):
    """The data loss, and a loss for each layer with a head; `settings.method` says which."""

    student: Encoder
    teacher: Encoder

    def __init__(self, backbone: Network, settings: Pretrain, classes: int = 0) -> None:
        """Make student and teacher with their heads, and centres of zero."""
        super().__init__(Encoder(backbone, settings), settings.head.prototypes)
        self.settings, self.method, self.preset = settings.loss, settings.method, losses.PRESETS[settings.preset]
        self.layers, self.frozen_epochs = self.student.layers, settings.optimizer.freeze_last_layer
        self.layer_weights = self.preset.layer_weights
        if self.method == "dino_ml" and self.preset.reduction == "sum":
            # unsourced: nothing is searched, so Eq. 9-11 read literally would leave the data loss alone.
            self.layer_weights = 1.0, 1.0
        self.scales: dict[str, float] = {layer: spatial_scale(settings.backbone, layer) for layer in self.layers}
        self._batch_means: dict[str, list[Tensor]] = {}
        self.register_buffer("center", torch.zeros(1, settings.head.prototypes))
        for layer in self.layers:
            self.register_buffer(f"{layer}_center", torch.zeros(1, settings.search_head.output))

    def forward(self, crops: Crops, teacher_temperature: float) -> dict[str, Tensor]:
        """Compute the losses of a batch; see `Method.forward` for the arguments. Only roi_crop needs the boxes.

        Returns:
            Scalars: `loss` (Eq. 11), its terms, and the teacher's entropy and centre norm.
        """
        # The teacher comes first, because it frees most of its memory again.
        with torch.no_grad(), self.side_stream.run() if self.side_stream else nullcontext():
            teacher_global = self.teacher.backbone(crops.global_crops)
        maps = BatchMaps(*self.student_maps(crops), teacher_global)
        if self.side_stream:
            self.side_stream.join(teacher_global.values())
        boxes = None
        if self.method == "roi_crop" and crops.boxes is not None:
            boxes = local_boxes(crops.boxes, self.preset.searched_views, crops.global_crops.shape[-1])
        return self.losses(maps, teacher_temperature, boxes)

    def losses(self, maps: BatchMaps, teacher_temperature: float, boxes: Boxes | None = None) -> dict[str, Tensor]:
        """Compute the losses from layer maps; see `forward`."""
        terms = self._data_terms(maps, teacher_temperature)
        total = terms["loss_data"]
        for layer in self.layers:
            layer_terms = self._layer_terms(layer, maps, teacher_temperature, boxes)
            for name, weight, term in zip(("global", "search"), self.layer_weights, layer_terms, strict=True):
                total = total + weight * term
                terms[f"loss_{layer}_{name}"] = term
        return {"loss": total, **terms}

    def _data_terms(self, maps: BatchMaps, teacher_temperature: float) -> dict[str, Tensor]:
        # One call of the head for all crops, as DINO does: it matters where the head has BatchNorm.
        head, center = self.student.head, self.get_buffer("center")
        embeddings = head.embeddings(torch.cat([image_feature(part) for part in maps[:2] if part is not None]))
        with torch.no_grad():
            features = image_feature(maps.teacher_global)
            teacher_logits = self.teacher.head(features)
            targets = teacher_probabilities(teacher_logits, center, teacher_temperature)
            if self.observe:
                self.observe(features, targets)
        prototypes, temperature = head.last_layer, self.settings.student_temperature
        loss = prototype_loss(
            embeddings, prototypes.weight_v, prototypes.weight_g, targets, temperature, self.preset.reduction
        )
        self._note_batch_mean("center", teacher_logits)
        return {"loss_data": loss, "teacher_entropy": losses.entropy(targets), **self.state_terms()}

    def _layer_terms(
        self, layer: str, maps: BatchMaps, teacher_temperature: float, boxes: Boxes | None
    ) -> tuple[Tensor, Tensor]:
        """Compute the global term (Eq. 2, on a layer) and the search term (Eq. 5-9) of one layer."""
        temperature, reduction = self.settings.student_temperature, self.preset.reduction
        head, teacher_head = self.student.layer_head(layer), self.teacher.layer_head(layer)
        outputs_global = head(maps.student_global[layer])
        outputs_local = None if maps.student_local is None else head(maps.student_local[layer])
        teacher_global = maps.teacher_global[layer]
        with torch.no_grad():
            first = conv2d(teacher_global, teacher_head.conv1)
            teacher_outputs = teacher_head.after_first(first, teacher_global)
            targets = teacher_probabilities(teacher_outputs, self.get_buffer(f"{layer}_center"), teacher_temperature)
        self._note_batch_mean(f"{layer}_center", teacher_outputs)
        global_term = losses.global_loss(outputs_global, targets, temperature, reduction)
        if self.method == "dino_ml":
            if outputs_local is None:
                return global_term, torch.zeros_like(global_term)
            return global_term, losses.local_loss(outputs_local, targets, temperature, reduction)
        with torch.no_grad():
            found_outputs, mask = self._found_outputs(layer, maps, first, boxes)
        B = len(teacher_global) // 2
        outputs = (outputs_global if outputs_local is None else outputs_local).unflatten(0, (-1, B))  # N, B, D
        found_outputs = found_outputs.unflatten(0, (len(outputs), -1, B))  # N, G, B, D
        normalizer = None
        if mask is not None:  # the only mean that is not over images: it divides by the terms of all processes
            normalizer = collectives.all_reduce(mask.sum()).clamp_min(1).double() * self.world_fraction
        return global_term, losses.search_loss(
            outputs, found_outputs, temperature, teacher_temperature, reduction, mask, normalizer
        )

    def _found_outputs(
        self, layer: str, maps: BatchMaps, first: Tensor, boxes: Boxes | None
    ) -> tuple[Tensor, Tensor | None]:
        """Compute the teacher head's outputs of what the crops find, (N*G*B, D), and the mask of `search_loss`.

        Args:
            layer: name of the layer.
            maps: see `losses`.
            first: the teacher head's first convolution of the teacher's map.
            boxes: see `losses`.
        """
        head, teacher_global = self.teacher.layer_head(layer), maps.teacher_global[layer]
        B = len(teacher_global) // 2
        if maps.student_local is None:  # Table 7, "SCFS w/o MC": each global crop searches the other one (G_d 2 G_f)
            queries = search_query(maps.student_global[layer])[None]  # 1, 2*B, C
            searched, first = (part.roll(B, dims=0) for part in (teacher_global, first))
            return searched_outputs(head, search(queries, searched), first, searched), None
        searched, first = (part[: self.preset.searched_views * B] for part in (teacher_global, first))
        if self.method == "roi_crop":
            if boxes is None:
                raise ValueError("the method roi_crop needs to know where the crops lie")
            return head(region_features(searched, boxes[0], self.scales[layer])), boxes[1]
        queries = search_query(maps.student_local[layer]).unflatten(0, (-1, B))
        return searched_outputs(head, search(queries, searched), first, searched), None

    def _note_batch_mean(self, name: str, teacher_outputs: Tensor) -> None:
        self._batch_means.setdefault(name, []).append(losses.batch_mean(teacher_outputs) * self.world_fraction)

    @torch.no_grad()
    def update_center(self) -> None:
        """Move the centres towards the mean outputs of the step's batch, whose parts came since the last call."""
        for name, means in self._batch_means.items():
            center, mean = self.get_buffer(name), collectives.all_reduce(torch.stack(means).mean(0))
            center.copy_(losses.updated_center(center, mean, self.settings.center_momentum))
        self._batch_means.clear()

    def drop_gradients(self, epochs_done: float) -> None:
        """Freeze the prototypes in the first epochs (authors' code)."""
        if epochs_done < self.frozen_epochs:
            for parameter in self.student.head.last_layer.parameters():
                parameter.grad = None

    def state_terms(self) -> dict[str, Tensor]:
        """Return the norm of the centre of the data loss."""
        return {"center_norm": torch.linalg.vector_norm(self.get_buffer("center"))}
