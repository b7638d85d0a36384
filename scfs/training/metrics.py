"""Metrics of a training: epoch means, the check that terms are finite, warnings, and the throughput.

Terms stay on the device in a small buffer and are fetched together, so that few steps wait for them.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor

from scfs.errors import ScfsError
from scfs.io.progress import log

INTERVAL = 20
"""Steps whose terms are fetched together."""

T = TypeVar("T")


def is_recorded(step: int, steps_per_epoch: int) -> bool:
    """True for every 20th step of an epoch and its last: by the step alone, so that a resumed run records the same."""
    within = step % steps_per_epoch + 1
    return within % INTERVAL == 0 or within == steps_per_epoch


class DivergedError(ScfsError):
    """A term of a step is NaN or infinite, or the weights are."""

    def __init__(self, step: int, terms: dict[str, float], lr: float, reason: str = "") -> None:
        """Take the step, its terms and its learning rate; `reason` comes before them in the message."""
        self.step, self.terms, self.lr = step, terms, lr
        shown = ", ".join(f"{name} {value:.6g}" for name, value in terms.items()) or "no losses yet"
        super().__init__(f"training diverged at step {step}: {reason}{shown}, lr {lr:.6g}")


class TermBuffer:
    """Holds the terms of the last steps on their device until they are fetched."""

    def __init__(self, lr: Callable[[int], float]) -> None:
        """Take the learning rate as a function of the step, for the message of an error."""
        self.lr = lr
        self._names: list[str] = []
        self._rows: list[tuple[int, Tensor]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, step: int, terms: dict[str, Tensor]) -> None:
        """Keep the terms of a step; every step has terms of the same names."""
        self._names = list(terms)
        self._rows.append((step, torch.stack([term.detach().float() for term in terms.values()])))

    def fetch(self) -> Iterator[tuple[int, dict[str, float]]]:
        """Copy all terms to the host, empty the buffer, and yield each step with its terms.

        Raises:
            DivergedError: a term is NaN or infinite; names the first such step, all its terms and the rate.
        """
        rows, self._rows = self._rows, []
        fetched = torch.stack([values for _, values in rows]).tolist() if rows else []
        for (step, _), row in zip(rows, fetched, strict=True):
            terms = dict(zip(self._names, row, strict=True))
            if not all(math.isfinite(value) for value in row):
                raise DivergedError(step, terms, self.lr(step))
            yield step, terms


class Metrics:
    """Averages the terms of every step over epochs. Its state is part of a checkpoint, so curves survive a resume."""

    def __init__(self, steps_per_epoch: int, prototypes: int, lr: Callable[[int], float]) -> None:
        """Start before the first epoch.

        Args:
            steps_per_epoch: number of steps in an epoch.
            prototypes: K; a data loss of ln K is that of a uniform output.
            lr: learning rate as a function of the step.
        """
        self.steps_per_epoch = steps_per_epoch
        self.ln_k = math.log(prototypes)
        self.lr = lr
        self.curve: dict[str, list[float]] = {}
        self.warnings: list[str] = []
        self._sums: dict[str, float] = {}
        self._buffer = TermBuffer(lr)
        self.latest: dict[str, float] = {}
        self._signs: dict[str, float] = {}

    def record(self, step: int, terms: dict[str, Tensor], signs: dict[str, float]) -> bool:
        """Take the terms of a step; return True if it is recorded, so that `latest` has new values.

        `signs`: latest values to show with an epoch's means; they are no part of the curve.
        """
        self._buffer.add(step, terms)
        self._signs = signs
        if not is_recorded(step, self.steps_per_epoch):
            return False
        self.fetch()
        return True

    def fetch(self) -> None:
        """Add the buffered terms to the sums of the epoch.

        Raises:
            DivergedError: see `TermBuffer.fetch`.
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
        log(f"epoch {epoch}: " + ", ".join(f"{name} {value:.4g}" for name, value in {**means, **self._signs}.items()))

    def warn(self, message: str) -> None:
        """Log a warning, and keep it for the record of the run."""
        self.warnings.append(message)
        log(f"warning: {message}")

    def state_dict(self) -> dict[str, Any]:
        """Return the plain values that belong to a checkpoint."""
        return {"curve": self.curve, "sums": self._sums, "warnings": self.warnings}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the values of a checkpoint."""
        self.curve, self._sums, self.warnings = state["curve"], state["sums"], state["warnings"]


class Throughput:
    """Measures images per second, and the fraction of the time that is spent waiting for batches."""

    def __init__(self, batch: int) -> None:
        """Start now, with batches of this many images."""
        self.batch, self._waited, self._steps = batch, 0.0, 0
        self._start: tuple[float, ...] = self._now()
        self._last = self._start

    def timed(self, batches: Iterable[T]) -> Iterator[T]:
        """Yield the batches, and count the time until each of them is there."""
        asked = time.perf_counter()
        for batch in batches:
            self._waited += time.perf_counter() - asked
            self._steps += 1
            yield batch
            asked = time.perf_counter()

    def leave_out(self, seconds: float) -> None:
        """Do not count these seconds, in which no step was done."""
        self._start, self._last = ((now + seconds, *others) for now, *others in (self._start, self._last))

    def latest(self) -> dict[str, float]:
        """Return the rates since the last call."""
        last, self._last = self._last, self._now()
        return self._rates(last)

    def overall(self) -> dict[str, float]:
        """Return the rates since the start."""
        return self._rates(self._start)

    def _now(self) -> tuple[float, ...]:
        return time.perf_counter(), self._waited, self._steps

    def _rates(self, since: tuple[float, ...]) -> dict[str, float]:
        passed, waited, steps = (now - before for now, before in zip(self._now(), since, strict=True))
        passed = max(passed, 1e-9)
        return {"images_per_second": steps * self.batch / passed, "data_wait_share": waited / passed}
