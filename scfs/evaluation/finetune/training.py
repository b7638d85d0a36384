"""Fine-tuning step by step. All that changes from step to step is in `state()`.

SGD with Nesterov's momentum, the rate on half a cosine from lr * batch / 256 to 0, no warm-up, mean cross-entropy
(SimCLR, appendices B.5 and B.8). What the appendices leave open is as in SimCLR's released code: weight decay is added
to the gradient of everything but BatchNorm's parameters, hence also of the classifier's bias (a ViT's LayerNorm is
spared likewise, # unsourced). "Divided by the learning rate": by `lr` itself, so that what the weights lose over a
number of images does not depend on the batch.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from scfs.config.finetune import FineTune
from scfs.evaluation.finetune.crops import CropBatch, CropBatches
from scfs.io.progress import log
from scfs.model.backbones.base import Network
from scfs.model.backbones.registry import image_feature
from scfs.model.methods.supervised import ClassifyingEncoder
from scfs.training.base import Training
from scfs.training.metrics import DivergedError, TermBuffer
from scfs.training.optimizer import eager
from scfs.training.schedules import cosine_with_warmup
from scfs.views.images import normalize

MOMENTUM = 0.9
INTERVAL = 20
"""Number of steps whose losses are fetched together."""
LINES = 10
"""Number of log lines in one training."""


def batch_norm_momentum(steps_per_epoch: float) -> float:
    """Return the weight of a batch in BatchNorm's running statistics: 1 - max(1 - 10 / s, 0.9) [SimCLR B.8]."""
    return min(10 / steps_per_epoch, 0.1)


class FineTuning(Training):
    """Model, optimiser and position of one fine-tuning."""

    task = "fine-tune"

    def __init__(
        self,
        protocol: FineTune,
        lr: float,
        weight_decay: float,
        backbone: Network,
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
        super().__init__(identity, data.steps, device, precision)
        self.protocol, self.peak = protocol, lr * protocol.batch / 256
        model = with_classifier(backbone, len(data.images.classes), protocol.seed)
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                module.momentum = batch_norm_momentum(data.steps_per_epoch)
        model = self.to_device(model)
        groups = parameter_groups(model, weight_decay / lr)
        self.model: ClassifyingEncoder
        self.set_model(model, eager(torch.optim.SGD)(groups, lr=0.0, momentum=MOMENTUM, nesterov=True))
        self._buffer = TermBuffer(self.lr)
        self._unlogged: list[dict[str, float]] = []

    def lr(self, step: int) -> float:
        """Learning rate of a step."""
        return cosine_with_warmup(step, self.peak, 0.0, self.total)

    def train_step(self, batch: Sequence[CropBatch]) -> dict[str, Tensor]:
        """Do one step on a batch in equal parts, or on this process's part of each.

        Returns:
            Scalars: `loss` and `accuracy` in percent, means over the whole batch.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr(self.step)
        terms = self.backward(batch, sum(len(part.labels) for part in batch) / self.protocol.batch)
        self.optimizer.step()
        self.step += 1
        return terms

    def losses(self, part: CropBatch) -> dict[str, Tensor]:
        """Compute cross-entropy and accuracy of a part of the batch."""
        pixels, labels = (values.to(self.device, non_blocking=True) for values in (part.pixels, part.labels))
        logits = self.model.classifier(image_feature(self.model.backbone(normalize(pixels, self.dtype))))
        logits = logits.to(self.dtype)
        accuracy = 100 * (logits.detach().argmax(1) == labels).to(logits.dtype).mean()
        return {"loss": F.cross_entropy(logits, labels), "accuracy": accuracy}

    def record(self, terms: dict[str, Tensor]) -> None:
        """Take the terms of a step, and log their means from time to time.

        Raises:
            DivergedError: a loss of the last steps is not finite.
        """
        step = self.step - 1
        self._buffer.add(step, terms)
        if len(self._buffer) >= INTERVAL or self.step == self.total:
            self.check_finite()
        if self.step * LINES // self.total > step * LINES // self.total and self._unlogged:
            means = {name: sum(each[name] for each in self._unlogged) / len(self._unlogged) for name in terms}
            self._unlogged = []
            shown = ", ".join(f"{name} {value:.4g}" for name, value in {**means, "lr": self.lr(step)}.items())
            log(f"step {self.step} of {self.total}: {shown}")

    def check_finite(self) -> None:
        """Fetch the losses so far; after the last step look at the weights too, from which no loss will be computed.

        Not before: weights that are not finite make the next loss so, at the same step wherever the training was saved.

        Raises:
            DivergedError: a loss or a weight is not finite.
        """
        for _, terms in self._buffer.fetch():
            self._unlogged.append(terms)
            self.terms = terms
        values = [value for value in self.model.state_dict().values() if value.is_floating_point()]
        if self.step == self.total and not torch.isfinite(torch.stack(torch._foreach_norm(values))).all():
            last = self.step - 1
            raise DivergedError(last, {"loss": float("nan")}, self.lr(last))


def with_classifier(backbone: Network, classes: int, seed: int) -> ClassifyingEncoder:
    """Put a new classifier on a backbone's image feature: W ~ N(0, 0.01) drawn from the seed, b = 0."""
    model = ClassifyingEncoder(backbone, classes)
    with torch.no_grad():
        model.classifier.weight.normal_(0, 0.01, generator=torch.Generator().manual_seed(seed))
        model.classifier.bias.zero_()
    return model.requires_grad_()


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Make two parameter groups: those that decay, and those of the norms, which do not."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm | nn.LayerNorm)]
    plain = [parameter for module in norms for parameter in module.parameters()]
    spared = {id(parameter) for parameter in plain}
    decayed = [parameter for parameter in model.parameters() if id(parameter) not in spared]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
