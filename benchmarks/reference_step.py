"""The authors' formulation of one pre-training step, written out again: same arithmetic, same order of operations.

It is what `step.py` measures against, and what a test holds the product to. Nothing of `scfs.model` is used here, so
that no change of ours makes the reference faster. Crops are normalised before, as the authors' loader does it; a
half-precision forward is autocast, as theirs is. One process, preset official, ResNets.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from scfs.config.pretrain import Pretrain

LAYERS = ("layer2", "layer3", "layer4")


class LastLayer(nn.Module):
    """Linear layer without bias whose weight is normalised row by row, anew in every call."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight_v = nn.Parameter(torch.empty(outputs, inputs))
        self.weight_g = nn.Parameter(torch.ones(outputs, 1), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs) -> (n, outputs)."""
        return F.linear(x, torch._weight_norm(self.weight_v, self.weight_g, 0))


class DINOHead(nn.Module):
    """MLP, L2 normalisation, weight-normalised linear layer."""

    def __init__(self, inputs: int, hidden: int, bottleneck: int, outputs: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )
        self.last_layer = LastLayer(bottleneck, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs) -> (n, K)."""
        return cast(Tensor, self.last_layer(F.normalize(self.mlp(x), dim=-1, p=2)))


class LayerHead(nn.Module):
    """Three convolutions with a residual, pooling, two fully connected layers."""

    def __init__(self, channels: int, width: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, channels, 1, bias=False), nn.BatchNorm2d(channels)
        self.relu, self.avgpool = nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d((1, 1))
        self.mlp = nn.Sequential(
            nn.Linear(channels, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, outputs),
            nn.BatchNorm1d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, H, W) -> (n, D)."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += x
        out = self.avgpool(self.relu(out)).flatten(1)
        return F.normalize(self.mlp(out), dim=-1, p=2)


class Encoder(nn.Module):
    """torchvision's ResNet with its layer maps, and all heads, under the product's names."""

    def __init__(self, settings: Pretrain) -> None:
        super().__init__()
        self.backbone = getattr(torchvision.models, settings.backbone)(weights=None)
        channels = {"layer4": self.backbone.fc.in_features}
        channels |= {"layer3": channels["layer4"] // 2, "layer2": channels["layer4"] // 4}
        self.backbone.fc = nn.Identity()
        head, search = settings.head, settings.search_head
        self.head = DINOHead(channels["layer4"], head.hidden, head.bottleneck, head.prototypes)
        for layer in LAYERS:
            setattr(self, f"{layer}_head", LayerHead(channels[layer], search.width, search.hidden, search.output))
            getattr(self.backbone, layer).register_forward_hook(self._keep(layer))
        self._maps: dict[str, Tensor] = {}

    def _keep(self, layer: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            self._maps[layer] = output

        return hook

    def forward(self, crops: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """(n, 3, S, S) -> logits (n, K) and the layers' maps."""
        self._maps = {}
        logits = self.head(self.backbone(crops))
        maps, self._maps = self._maps, {}
        return logits, maps

    def of_layer(self, layer: str, maps: Tensor) -> Tensor:
        """Maps (n, C, H, W) through the head of their layer: (n, D)."""
        return cast(Tensor, getattr(self, f"{layer}_head")(maps))


class ReferenceStep:
    """Student, teacher, centres and optimiser; `step` does what the authors' training loop does with one batch."""

    def __init__(self, settings: Pretrain, state: dict[str, Tensor], device: torch.device, dtype: torch.dtype) -> None:
        """Take the settings and the state of the product's `SCFS`."""
        self.settings, self.device = settings, device
        self.student = Encoder(settings)
        self.student.load_state_dict({k[8:]: v for k, v in state.items() if k.startswith("student.")})
        self.teacher = Encoder(settings)
        self.teacher.load_state_dict({k[8:]: v for k, v in state.items() if k.startswith("teacher.")})
        for parameter in self.teacher.parameters():
            parameter.requires_grad = False
        self.student.to(device, dtype).train()
        self.teacher.to(device, dtype).train()
        self.centers = {name: state[name].to(device, dtype) for name in state if "center" in name}
        trained = [(name, p) for name, p in self.student.named_parameters() if p.requires_grad]
        plain = [p for name, p in trained if name.endswith(".bias") or p.ndim == 1]
        decayed = [p for name, p in trained if not (name.endswith(".bias") or p.ndim == 1)]
        groups: list[dict[str, Any]] = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
        self.optimizer = torch.optim.SGD(groups, lr=0, momentum=settings.optimizer.momentum)

    def losses(self, crops: list[Tensor], temperature: float) -> dict[str, Tensor]:
        """Loss terms of a batch: two global crops and then local ones, each (B, 3, S, S), normalised."""
        student, teacher = self.student, self.teacher
        B, locals_number = len(crops[0]), len(crops) - 2
        teacher_logits, teacher_maps = teacher(torch.cat(crops[:2]))
        global_logits, global_maps = student(torch.cat(crops[:2]))
        local_logits, local_maps = student(torch.cat(crops[2:]))
        terms = {"loss_data": self._dino(torch.cat([global_logits, local_logits]), teacher_logits, temperature)}
        total = terms["loss_data"]
        for layer in LAYERS:
            with torch.no_grad():
                query = F.normalize(F.adaptive_avg_pool2d(local_maps[layer], 1).flatten(1), dim=1)  # N*B, C
                view = teacher_maps[layer][:B]
                key = F.normalize(view, dim=1)
                found = []
                for one in query.chunk(locals_number):
                    attention = (key * one[:, :, None, None]).sum(1, keepdim=True)
                    found.append(attention * view)
                teacher_global = teacher.of_layer(layer, teacher_maps[layer])
                searched = teacher.of_layer(layer, torch.cat(found))
            student_global = student.of_layer(layer, global_maps[layer])
            student_local = student.of_layer(layer, local_maps[layer])
            of_global, of_search = self._layer_loss(
                layer, student_global, student_local, teacher_global, searched, temperature
            )
            terms |= {f"loss_{layer}_global": of_global, f"loss_{layer}_search": of_search}
            total = total + 0.5 * (of_global + of_search)
        return {"loss": total, **terms}

    def _dino(self, student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
        student_out = student_logits / self.settings.loss.student_temperature
        views = student_out.chunk(2 + self.settings.views.local_number)
        targets = F.softmax((teacher_logits - self.centers["center"]) / temperature, dim=-1).detach().chunk(2)
        total: Any = 0
        terms = 0
        for index, target in enumerate(targets):
            for view, output in enumerate(views):
                if view == index:
                    continue
                total += torch.sum(-target * F.log_softmax(output, dim=-1), dim=-1).mean()
                terms += 1
        self._move_center("center", teacher_logits)
        return cast(Tensor, total / terms)

    def _layer_loss(
        self, layer: str, of_global: Tensor, of_local: Tensor, targets: Tensor, searched: Tensor, temperature: float
    ) -> tuple[Tensor, Tensor]:
        tau, locals_number = self.settings.loss.student_temperature, self.settings.views.local_number
        first, second = (of_global / tau).chunk(2)
        p1, p2 = F.softmax((targets - self.centers[f"{layer}_center"]) / temperature, dim=-1).detach().chunk(2)
        global_loss = torch.sum(-p1 * F.log_softmax(second, dim=-1), dim=-1).mean()
        global_loss = (global_loss + torch.sum(-p2 * F.log_softmax(first, dim=-1), dim=-1).mean()) / 2
        search_loss: Any = 0
        outputs, found = (of_local / tau).chunk(locals_number), searched.detach().chunk(locals_number)
        for output, target in zip(outputs, found, strict=True):
            target = F.softmax(target / temperature, dim=-1)
            search_loss += torch.sum(-target * F.log_softmax(output, dim=-1), dim=-1).mean()
        self._move_center(f"{layer}_center", targets)
        return global_loss, search_loss / locals_number

    @torch.no_grad()
    def _move_center(self, name: str, teacher_output: Tensor) -> None:
        mean = torch.sum(teacher_output, dim=0, keepdim=True) / len(teacher_output)
        momentum = self.settings.loss.center_momentum
        self.centers[name] = self.centers[name] * momentum + mean * (1 - momentum)

    def step(
        self,
        crops: list[Tensor],
        temperature: float,
        lr: float,
        weight_decay: float,
        momentum: float,
        frozen: bool,
        autocast: torch.dtype | None = None,
    ) -> dict[str, Tensor]:
        """One step of the optimiser and of the teacher's average; `frozen`: the last layer's gradient is dropped."""
        for index, group in enumerate(self.optimizer.param_groups):
            group["lr"] = lr
            if index == 0:
                group["weight_decay"] = weight_decay
        with torch.autocast(self.device.type, autocast, enabled=autocast is not None):
            terms = self.losses(crops, temperature)
        if not torch.isfinite(terms["loss"]).item():
            raise FloatingPointError("the loss is not finite")
        self.optimizer.zero_grad()
        terms["loss"].backward()
        self._clip()
        if frozen:
            for name, parameter in self.student.named_parameters():
                if "last_layer" in name:
                    parameter.grad = None
        self.optimizer.step()
        with torch.no_grad():
            for ours, theirs in zip(self.student.parameters(), self.teacher.parameters(), strict=True):
                theirs.data.mul_(momentum).add_((1 - momentum) * ours.detach().data)
        return terms

    def _clip(self) -> None:
        limit = self.settings.optimizer.clip
        for parameter in self.student.parameters():
            if parameter.grad is not None:
                norm = parameter.grad.data.norm(2)
                coefficient = limit / (norm + 1e-6)
                if coefficient < 1:
                    parameter.grad.data.mul_(coefficient)
