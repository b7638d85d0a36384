"""Fine-tuning step by step. All that changes from step to step is in `state()`.

SGD with Nesterov's momentum, the rate on half a cosine from lr * batch / 256 to 0, no warm-up, mean cross-entropy
(SimCLR, appendices B.5 and B.8). What the appendices leave open is as in SimCLR's released code: weight decay is added
to the gradient of everything but BatchNorm's parameters, hence also of the classifier's bias (a ViT's LayerNorm is
spared likewise, # unsourced). "Divided by the learning rate": by `lr` itself, so that what the weights lose over a
number of images does not depend on the batch.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from scfs.config.finetune import FineTune
from scfs.errors import ScfsError
from scfs.evaluation.finetune.crops import CropBatch, CropBatches
from scfs.io.progress import log
from scfs.model.backbones.registry import image_feature
from scfs.model.ops import synchronize_batch_norm
from scfs.model.supervised import ClassifyingEncoder
from scfs.runtime import collectives
from scfs.runtime.gradient_allreduce import GradientAllReduce
from scfs.training.checkpointing import check_identity
from scfs.training.metrics import DivergedError, TermBuffer
from scfs.training.optimizer import eager
from scfs.training.schedules import cosine_with_warmup
from scfs.views.images import normalize

if TYPE_CHECKING:
    from scfs.model.backbones.resnet import Backbone
    from scfs.model.backbones.vit import ViT

MOMENTUM = 0.9
INTERVAL = 20
"""Steps whose losses are fetched together."""
LINES = 10
"""Log lines of one training."""


def batch_norm_momentum(steps_per_epoch: float) -> float:
    """Weight of a batch in BatchNorm's running statistics: 1 - max(1 - 10 / s, 0.9) [SimCLR B.8]."""
    return min(10 / steps_per_epoch, 0.1)


class FineTuning:
    """Model, optimiser and position of one training."""

    def __init__(
        self,
        protocol: FineTune,
        lr: float,
        weight_decay: float,
        backbone: "Backbone | ViT",
        data: CropBatches,
        device: torch.device,
        precision: str,
        identity: str,
    ) -> None:
        """Start from a backbone, which is trained in place.

        Args:
            protocol: batch size and seed.
            lr: learning rate per 256 images of a batch.
            weight_decay: before it is divided by that rate.
            backbone: of the weights that are evaluated.
            data: what it will be trained on.
            device: where to train.
            precision: fp32, bf16, or for tests fp64.
            identity: of the training (scfs.config.identity).
        """
        self.protocol, self.device, self.precision, self.identity = protocol, device, precision, identity
        self.peak, self.total = lr * protocol.batch / 256, data.steps
        self.dtype = torch.float64 if precision == "fp64" else torch.float32
        model = with_classifier(backbone, len(data.images.classes), protocol.seed)
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.momentum = batch_norm_momentum(data.steps_per_epoch)
        self.model = (
            synchronize_batch_norm(model, device).to(device, self.dtype).to(memory_format=torch.channels_last).train()
        )
        groups = parameter_groups(self.model, weight_decay / lr)
        self.gradient_allreduce = GradientAllReduce(self.model.parameters())
        self.optimizer = eager(torch.optim.SGD)(groups, lr=0.0, momentum=MOMENTUM, nesterov=True)
        self.step = 0
        self._terms = TermBuffer(self.lr)
        self._shown: list[dict[str, float]] = []
        self._started, self._seconds_before = time.monotonic(), 0.0

    def lr(self, step: int) -> float:
        """Learning rate of a step."""
        return cosine_with_warmup(step, self.peak, 0.0, self.total)

    def seconds(self) -> float:
        """Seconds that the training has taken, all its executions together."""
        return self._seconds_before + time.monotonic() - self._started

    def train_step(self, parts: Sequence[CropBatch]) -> dict[str, Tensor]:
        """One step on a batch in equal parts, or on this process's share of each.

        Returns:
            Scalars: `loss` and `accuracy` in percent, means over the whole batch.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        share = sum(len(part.labels) for part in parts) / self.protocol.batch
        terms = [self._accumulate(part, share / len(parts)) for part in parts[:-1]]
        with self.gradient_allreduce.during_backward():
            terms.append(self._accumulate(parts[-1], share / len(parts)))
        self.optimizer.step()
        self.step += 1
        means = {name: torch.stack([part[name] for part in terms]).mean() for name in terms[0]}
        return collectives.all_reduce_weighted(means, share)

    def _accumulate(self, batch: CropBatch, weight: float) -> dict[str, Tensor]:
        """Add the gradients of a part of the batch."""
        pixels, labels = (values.to(self.device, non_blocking=True) for values in (batch.pixels, batch.labels))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            logits = self.model.classifier(image_feature(self.model.backbone(normalize(pixels, self.dtype))))
        logits = logits.to(self.dtype)
        loss = F.cross_entropy(logits, labels)
        (loss * weight).backward()
        accuracy = 100 * (logits.detach().argmax(1) == labels).to(logits.dtype).mean()
        return {"loss": loss.detach(), "accuracy": accuracy}

    def record(self, step: int, terms: dict[str, Tensor]) -> None:
        """Take the terms of a step, and show them from time to time.

        Raises:
            DivergedError: a loss of the last steps is not finite.
        """
        self._terms.add(step, terms)
        if len(self._terms) >= INTERVAL or self.step == self.total:
            self.check_finite()
        if self.step * LINES // self.total > step * LINES // self.total and self._shown:
            means = {name: sum(each[name] for each in self._shown) / len(self._shown) for name in terms}
            self._shown = []
            shown = ", ".join(f"{name} {value:.4g}" for name, value in {**means, "lr": self.lr(step)}.items())
            log(f"step {self.step} of {self.total}: {shown}")

    def check_finite(self) -> None:
        """Fetch the losses so far; after the last step look at the weights too, from which no loss will be computed.

        Not before: weights that are not finite make the next loss so, at the same step wherever the training was saved.

        Raises:
            DivergedError: one is not finite.
        """
        self._shown += [terms for _, terms in self._terms.fetch()]
        if self.step == self.total and not self._is_finite():
            last = self.step - 1
            raise DivergedError(last, {"loss": float("nan")}, self.lr(last))

    def _is_finite(self) -> bool:
        values = [value for value in self.model.state_dict().values() if value.is_floating_point()]
        return bool(torch.isfinite(torch.stack(torch._foreach_norm(values))).all())

    def state(self) -> dict[str, Any]:
        """Everything that an exact resume needs; batches follow from the step."""
        return {
            "identity": self.identity,
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "seconds": self.seconds(),
        }

    def restore(self, state: dict[str, Any], source: Path) -> None:
        """Take over a checkpoint's state.

        Raises:
            ScfsError: it belongs to another training, or its tensors do not fit this architecture.
        """
        check_identity(state, self.identity, source)
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError) as error:
            raise ScfsError(f"{source}: its checkpoint does not fit this architecture: {error}") from None
        self.step, self._seconds_before = state["step"], state["seconds"]


def with_classifier(backbone: "Backbone | ViT", classes: int, seed: int) -> ClassifyingEncoder:
    """A backbone with a new classifier on its image feature: W ~ N(0, 0.01), b = 0, drawn from the seed."""
    model = ClassifyingEncoder(backbone, backbone.channels, classes)
    with torch.no_grad():
        model.classifier.weight.normal_(0, 0.01, generator=torch.Generator().manual_seed(seed))
        model.classifier.bias.zero_()
    return model.requires_grad_()


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: what decays, and the parameters of the norms, which do not."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm | nn.LayerNorm)]
    plain = [parameter for module in norms for parameter in module.parameters()]
    spared = {id(parameter) for parameter in plain}
    decayed = [parameter for parameter in model.parameters() if id(parameter) not in spared]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
