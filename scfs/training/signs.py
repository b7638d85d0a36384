"""Signs, without labels, of whether a pre-training learns, and the rule that warns of one that does not.

They are measured at the steps that are recorded (`scfs.training.metrics.is_recorded`), from what the last steps have
computed anyway: nothing is drawn, and no weight depends on them. The first of several processes measures its own part
of the batches. A measurement takes about 256 crops, and some hundredths of a second on a CPU.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from scfs.config.pretrain import Pretrain
from scfs.training.metrics import INTERVAL

SAMPLES = 256
"""Teacher's features in a measurement; the rank cannot exceed it."""
LOSS_AT_LN_K = 0.99
"""Fraction of ln K above which the data loss is a sign."""
ONE_OUTPUT = 0.01
"""Fraction of ln K below which the entropy of the mean output is a sign: all images get one prototype."""
CENTRE_DOMINATES = 0.999
"""Fraction of ln K above which the entropy of single outputs is a sign: centred, they say the same of every image."""
RULED = "loss_data", "entropy_of_mean", "teacher_entropy", "rank"
"""Scalars that the rule looks at."""
HELD = 0.05
"""Fraction of the steps for which two signs must hold."""


def effective_rank(features: Tensor) -> float:
    """Compute RankMe of features (n, C): exp of the entropy of their singular values' shares (Garrido et al., 2023)."""
    features = features.double()
    gram = features @ features.T if len(features) < features.shape[1] else features.T @ features
    values = torch.linalg.eigvalsh(gram).clamp_min(0).sqrt()
    shares = values / values.sum().clamp_min(1e-300) + 1e-7
    return math.exp(-float(torch.xlogy(shares, shares).sum()))


def feature_deviation(features: Tensor) -> float:
    """Compute the mean deviation of unit-length features (n, C), times sqrt(C): 1 if they point everywhere, 0 if all
    are one (Chen and He, SimSiam, 2021)."""
    unit = torch.nn.functional.normalize(features.double(), dim=1)
    return float(unit.std(0, correction=0).mean()) * math.sqrt(features.shape[1])


class Signs:
    """Measures the signs of a training. Its state is part of a checkpoint, so that they survive a resume."""

    def __init__(self, steps_per_epoch: int, images: int, parts: int) -> None:
        """Take the steps in an epoch, this process's images in a step, and the parts that a step is computed in."""
        # As many steps in every measurement: the rank grows with the number of images.
        steps = min(math.ceil(SAMPLES / (2 * images)), INTERVAL, steps_per_epoch)  # of two global crops each
        self._kept = steps * parts
        self._features: list[Tensor] = []
        self._outputs: list[Tensor] = []
        self.latest: dict[str, float] = {}
        self.recorded: list[tuple[int, dict[str, float]]] = []
        """Recorded steps with what the rule looks at."""

    def observe(self, features: Tensor, outputs: Tensor) -> None:
        """Take a part of a step: the teacher's features (n, C) and probabilities (n, K)."""
        self._features = [*self._features, features.detach().float()][-self._kept :]
        self._outputs = [*self._outputs, outputs.detach().float().sum(0)][-self._kept :]

    def measure(self, parameters: Iterable[Tensor]) -> None:
        """Measure, after the backward pass of a recorded step and before its gradients are clipped."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        norm = float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)).float()))
        self.latest = {"gradient_norm": norm} if math.isfinite(norm) else {}  # fp16 passes over steps that overflow
        if self._features:
            features = torch.cat([part.cpu() for part in self._features])
            mean = torch.stack([part.cpu() for part in self._outputs]).sum(0)
            mean = mean / mean.sum()
            self.latest["rank"] = effective_rank(features)
            self.latest["feature_deviation"] = feature_deviation(features)
            self.latest["entropy_of_mean"] = -float(torch.xlogy(mean, mean).sum())

    def record(self, step: int, terms: Mapping[str, float]) -> None:
        """Keep what the rule looks at of a recorded step."""
        kept = {**terms, **self.latest}
        self.recorded.append((step, {name: kept[name] for name in RULED if name in kept}))

    def state_dict(self) -> dict[str, Any]:
        """Return what the next measurement and the rule may need."""
        return vars(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the values of a checkpoint, which another number of processes may have made."""
        vars(self).update(state, _kept=self._kept)


def present_signs(values: Mapping[str, float], ln_k: float, first_rank: float | None = None) -> list[str]:
    """Name the signs that scalars of one step show; one whose scalars are missing does not count."""
    found = []
    if values.get("loss_data", 0.0) > LOSS_AT_LN_K * ln_k:
        found.append(f"the data loss is {values['loss_data'] / ln_k:.3f} ln K")
    if values.get("entropy_of_mean", ln_k) < ONE_OUTPUT * ln_k:
        found.append(f"the mean output's entropy is {values['entropy_of_mean']:.2g}")
    elif values.get("teacher_entropy", 0.0) > CENTRE_DOMINATES * ln_k:
        found.append("the centre takes all from the teacher's outputs")
    if first_rank is not None and values.get("rank", first_rank) < first_rank:
        found.append(f"the rank is {values['rank']:.1f}, {first_rank:.1f} at the start")
    return found


def first_alarm(
    scalars: Iterable[tuple[int, Mapping[str, float]]], ln_k: float, total: int, learns_from: float = 0
) -> tuple[int, list[str]] | None:
    """Apply the rule: two of three signs hold for 5 % of the steps, once the last layer learns.

    Args:
        scalars: recorded steps with their values, in order; those of a finished run will do, probes among them.
        ln_k: ln of the number of prototypes.
        total: steps of the training.
        learns_from: steps before the last layer learns.

    Returns:
        The step of the alarm and its signs; None if there is none.
    """
    first_rank = since = None
    for step, values in scalars:
        if "loss_data" not in values:  # a probe's
            continue
        first_rank = values.get("rank") if first_rank is None else first_rank
        found = present_signs(values, ln_k, first_rank)
        if len(found) < 2 or step < learns_from:
            since = None
        elif since is None:
            since = step
        elif step - since >= HELD * total:
            return step, found
    return None


def advice(settings: Pretrain, found: list[str]) -> str:
    """Name the two settings to change. Sources: DINO's own advice (its options' help), and study `short`."""
    temperature = f"loss.teacher_temperature (now {list(settings.loss.teacher_temperature)})"
    if any("mean output" in sign for sign in found):
        return f"raise {temperature} and lower loss.center_momentum (now {settings.loss.center_momentum})"
    if not settings.head.batch_norm:
        return f"lower {temperature} and set head.batch_norm=true"
    return f"lower {temperature} and raise optimizer.freeze_last_layer (now {settings.optimizer.freeze_last_layer:g})"
