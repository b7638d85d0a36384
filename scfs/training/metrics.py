"""What a training shows of itself: epoch means, rates, the finite guard, warnings.

Terms stay on the device in a small buffer and are fetched together every `interval` steps, so no step waits for them.
"""

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from scfs.errors import ScfsError
from scfs.io.progress import log

AT_LN_K = 0.99  # share of ln K above which the data loss counts as not learning
COLLAPSED = 0.01  # share of ln K below which the teacher's entropy counts as collapsed


class DivergedError(ScfsError):
    """A term of a step is NaN or infinite."""

    def __init__(self, step: int, terms: dict[str, float], lr: float) -> None:
        self.step, self.terms, self.lr = step, terms, lr
        shown = ", ".join(f"{name} {value:.6g}" for name, value in terms.items())
        super().__init__(f"training diverged at step {step}: {shown}, lr {lr:.6g}")


class TermBuffer:
    """Terms of the last steps, on their device until they are fetched."""

    def __init__(self, lr: Callable[[int], float]) -> None:
        self.lr = lr
        self._names: list[str] = []
        self._rows: list[tuple[int, Tensor]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, step: int, terms: dict[str, Tensor]) -> None:
        """Keep the terms of a step, the same ones in every step."""
        self._names = list(terms)
        self._rows.append((step, torch.stack([term.detach().float() for term in terms.values()])))

    def fetch(self) -> Iterator[tuple[int, dict[str, float]]]:
        """Bring all to the host and forget them: each step and its terms.

        Raises:
            DivergedError: at the first step with a term that is NaN or infinite.
        """
        rows, self._rows = self._rows, []
        if not rows:
            return
        steps = [step for step, _ in rows]
        for step, row in zip(steps, torch.stack([values for _, values in rows]).tolist(), strict=True):
            terms = dict(zip(self._names, row, strict=True))
            if not all(math.isfinite(value) for value in row):
                raise DivergedError(step, terms, self.lr(step))
            yield step, terms


class Monitor:
    """Collects the terms of every step. Its state is part of a checkpoint, so that curves survive a resume."""

    def __init__(self, steps_per_epoch: int, prototypes: int, lr: Callable[[int], float], interval: int = 20) -> None:
        self.steps_per_epoch = steps_per_epoch
        self.ln_k = math.log(prototypes)
        self.lr = lr
        self.interval = interval
        self.curve: dict[str, list[float]] = {}
        self.warnings: list[str] = []
        self._sums: dict[str, float] = {}
        self._buffer = TermBuffer(lr)
        self.latest: dict[str, float] = {}

    def record(self, step: int, terms: dict[str, Tensor]) -> bool:
        """Take the terms of a step; True when they were fetched and `latest` holds new values."""
        self._buffer.add(step, terms)
        if len(self._buffer) < self.interval and (step + 1) % self.steps_per_epoch:
            return False
        self.fetch()
        return True

    def fetch(self) -> None:
        """Bring buffered terms to the host, check that they are finite and add them to the epoch's sums.

        Raises:
            DivergedError: a term is NaN or infinite; names the first such step with all its terms and the rate.
        """
        for step, terms in self._buffer.fetch():
            for name, value in terms.items():
                self._sums[name] = self._sums.get(name, 0.0) + value
            self.latest = terms
            if (step + 1) % self.steps_per_epoch == 0:
                self._close_epoch(step)

    def _close_epoch(self, step: int) -> None:
        means = {name: total / self.steps_per_epoch for name, total in self._sums.items()}
        self._sums = {}
        epoch = (step + 1) // self.steps_per_epoch
        for name, value in {"epoch": epoch, "step": step + 1, **means, "lr": self.lr(step)}.items():
            self.curve.setdefault(name, []).append(value)
        log(f"epoch {epoch}: " + ", ".join(f"{name} {value:.4g}" for name, value in means.items()))
        if epoch >= 3:  # the first two are warm-up: the loss starts at ln K
            if means["loss_data"] > AT_LN_K * self.ln_k:
                self._warn("ln K", f"epoch {epoch}: the data loss sits at ln K = {self.ln_k:.2f}: nothing is learnt")
            if means.get("teacher_entropy", self.ln_k) < COLLAPSED * self.ln_k:
                self._warn(
                    "collapse", f"epoch {epoch}: the teacher's entropy is {means['teacher_entropy']:.3g}: collapse"
                )

    def _warn(self, kind: str, message: str) -> None:
        if not any(kind in known for known in self.warnings):
            self.warnings.append(message)
            log(f"warning: {message}")

    def state(self) -> dict[str, Any]:
        """Plain values for the checkpoint."""
        return {"curve": self.curve, "sums": self._sums, "warnings": self.warnings}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over the values of a checkpoint."""
        self.curve, self._sums, self.warnings = state["curve"], state["sums"], state["warnings"]


class Rates:
    """Images per second and the share of time spent waiting for data, since the last call of `take`."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self._reset()

    def _reset(self) -> None:
        self._started, self._waited, self._steps = time.perf_counter(), 0.0, 0

    def waited(self, seconds: float) -> None:
        """Count a step that waited this long for its batch."""
        self._waited += seconds
        self._steps += 1

    def take(self) -> dict[str, float]:
        """Rates since the last call."""
        passed = max(time.perf_counter() - self._started, 1e-9)
        rates = {"images_per_second": self._steps * self.batch / passed, "data_wait_share": self._waited / passed}
        self._reset()
        return rates
