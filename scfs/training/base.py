"""The base of pre-training, fine-tuning and the training of a detector.

It computes a batch in parts and over several processes, with autocast; it saves, stops at signals, resumes exactly, and
checks that numbers are finite. A subclass of `Training` says what its model is and what one step does.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from scfs.errors import ScfsError, refusing
from scfs.io.locks import run_lock
from scfs.io.progress import log, track
from scfs.model.ops.batch_norm import synchronize_batch_norm
from scfs.runtime import collectives
from scfs.runtime.cpu import keep_freed_memory
from scfs.runtime.device import resolve_device
from scfs.runtime.gradient_allreduce import GradientAllReduce
from scfs.runtime.stop_signals import PreemptedError, stop_signals
from scfs.training.checkpointing import CheckpointManager
from scfs.training.metrics import DivergedError

M = TypeVar("M", bound=nn.Module)

LARGEST_NORM = 1e8
"""Norm of a parameter from which no training recovers."""
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Type of the forward pass by precision; the other precisions compute without autocast."""


@dataclass(frozen=True)
class Execution:
    """How a training is executed; what changes its numbers is part of its identity."""

    threads: int = 1
    """Number of torch's threads; part of the identity, since sums depend on it."""
    device: str = "auto"
    """auto, cpu or cuda; part of the identity."""
    workers: int = 0
    """Number of processes that read images and make batches."""
    save_every: float = 120
    """Seconds between checkpoints."""


class Training(ABC):
    """Model, optimiser and position of one training. Everything that changes from step to step is in `state()`."""

    task: ClassVar[str]
    """Name in progress lines."""
    advice: ClassVar[str] = "go back to the old values, or remove this folder"
    """What to do about a folder of another training."""
    more: str = ""
    """What to do for more steps than a finished training has, from "; " on."""
    newer: ClassVar[tuple[str, ...]] = ()
    """Keys of `stateful` that older checkpoints lack, and that change no weight."""

    def __init__(self, identity: str, total: int, device: torch.device, precision: str = "fp32") -> None:
        """Begin at step 0.

        Args:
            identity: identity of the training; a checkpoint of another one is refused (scfs.config.identity).
            total: number of steps.
            device: where to train.
            precision: fp32, bf16, fp16, or for tests fp64.
        """
        self.identity, self.total, self.device, self.precision = identity, total, device, precision
        self.dtype = torch.float64 if precision == "fp64" else torch.float32
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self.made_of: dict[str, Any] = {}
        """Plain values that the identity was made of, as far as a refusal is to name them."""
        self.step = 0
        """Steps done."""
        self.terms: dict[str, float] = {}
        """Latest losses that were read from the device, by name."""
        self._started, self._seconds_before = time.monotonic(), 0.0

    def to_device(self, model: M, compile: bool = False) -> M:
        """Move a model to the device, channels last, in training mode, with BatchNorm over all processes."""
        model = synchronize_batch_norm(model, self.device, compile).to(self.device, self.dtype)
        return model.to(memory_format=torch.channels_last).train()

    def set_model(self, model: nn.Module, optimizer: torch.optim.Optimizer, trained: nn.Module | None = None) -> None:
        """Set what is trained.

        Args:
            model: everything that a checkpoint must hold.
            optimizer: optimiser of the trained parameters.
            trained: the part of the model that gets gradients; default: all of it.
        """
        self.model, self.optimizer = model, optimizer
        self.gradient_allreduce = GradientAllReduce((trained or model).parameters())

    @abstractmethod
    def train_step(self, batch: Any) -> dict[str, Tensor]:
        """Do one step; returns its terms, averaged over the whole batch, on all processes."""

    @abstractmethod
    def losses(self, part: Any) -> dict[str, Tensor]:
        """Compute the terms of a part of a batch; the gradient is that of the term `loss`."""

    @abstractmethod
    def lr(self, step: int) -> float:
        """Learning rate of a step."""

    def record(self, terms: dict[str, Tensor]) -> None:  # noqa: B027  # nothing to do unless a subclass wants to
        """Take the terms of the step that was just done; called by `run`."""

    def while_running(self, folder: Path) -> AbstractContextManager[Any]:
        """Make a context for all the steps of `run`, such as loggers that write into the run folder."""
        return nullcontext()

    def stateful(self) -> dict[str, Any]:
        """Parts whose `state_dict` belongs to a checkpoint, by their keys in it."""
        return {"model": self.model, "optimizer": self.optimizer}

    def seconds(self) -> float:
        """Seconds that the training has taken, over all its executions."""
        return self._seconds_before + time.monotonic() - self._started

    def autocast(self) -> torch.autocast:
        """Make the context of the forward pass."""
        return torch.autocast(self.device.type, AUTOCAST.get(self.precision), enabled=self.precision in AUTOCAST)

    def backward(self, parts: Sequence[Any], fraction: float) -> dict[str, Tensor]:
        """Compute the gradients of a batch: added up over its parts, and summed over the processes.

        Args:
            parts: equal parts of this process's images; BatchNorm sees one at a time.
            fraction: number of this process's images, divided by that of the whole batch.

        Returns:
            Scalars: the terms, averaged over the whole batch.
        """
        self.optimizer.zero_grad(set_to_none=True)
        weight = fraction / len(parts)
        terms = [self._backward_part(part, weight) for part in parts[:-1]]
        with self.gradient_allreduce.during_backward():
            terms.append(self._backward_part(parts[-1], weight))
        means = {name: torch.stack([part[name] for part in terms]).mean() for name in terms[0]}
        return collectives.all_reduce_weighted(means, fraction)

    def _backward_part(self, part: Any, weight: float) -> dict[str, Tensor]:
        with self.autocast():
            terms = self.losses(part)
        self.scaler.scale(terms["loss"] * weight).backward()
        return {name: term.detach() for name, term in terms.items()}

    def diverged(self, step: int, reason: str = "") -> DivergedError:
        """Make the error that names the step, the latest terms and the learning rate."""
        return DivergedError(step, self.terms, self.lr(step), reason)

    def check_finite(self) -> None:
        """Hold the state to what may be saved: weights that have not exploded.

        Raises:
            DivergedError: they have.
        """
        norms = torch.stack(torch._foreach_norm(list(self.model.parameters())))
        if not bool((norms < LARGEST_NORM).all()):  # false for NaN too
            raise self.diverged(self.step - 1, "the weights exploded; ")

    def state(self) -> dict[str, Any]:
        """Collect everything that an exact resume needs; batches follow from the step."""
        parts = {key: part.state_dict() for key, part in self.stateful().items()}
        facts = {"identity": self.identity, "made_of": self.made_of, "step": self.step}
        return {**facts, **parts, "seconds": self.seconds()}

    def restore(self, state: dict[str, Any], source: Path) -> None:
        """Take over the state of a checkpoint.

        Raises:
            ScfsError: it belongs to another training, or its tensors do not fit this architecture.
        """
        if state["identity"] != self.identity:
            was, now = state.get("made_of", {}), self.made_of  # older checkpoints lack it
            changed = [key for key in sorted(was.keys() | now.keys()) if was.get(key) != now.get(key)] if was else []
            said = ", ".join(f"{key} = {was.get(key)!r} and not {now.get(key)!r}" for key in changed[:3])
            more = ", ..." if len(changed) > 3 else ""
            raise ScfsError(
                f"{source}: its checkpoints are of identity {state['identity']}, this run's is {self.identity}:"
                f" made with {said or 'other settings, data, precision or code version'}{more};"
                f" {self.advice}"
            )
        with refusing(f"{source}: its checkpoint does not fit this architecture", RuntimeError, ValueError):
            for key, part in self.stateful().items():
                if key in state or key not in self.newer:
                    part.load_state_dict(state[key])
        self.step, self._seconds_before = state["step"], state["seconds"]

    def resume(self, folder: Path) -> None:
        """Go to the newest checkpoint of the run folder, if it has any.

        Raises:
            ScfsError: all of them are damaged, or see `restore`.
        """
        found = CheckpointManager(folder).load() if collectives.is_first() else None
        state = collectives.broadcast_object(found)
        if state is not None:
            self.restore(state, folder)

    def run(self, batches: Iterable[Any], folder: Path, save_every: float) -> float | None:
        """Train from the current step to the last one.

        Args:
            batches: batches of the steps that are left, in order.
            folder: the run folder; checkpoints go into it.
            save_every: seconds between checkpoints.

        Returns:
            Seconds per step of this execution; None if there was nothing left to do.

        Raises:
            DivergedError: the losses or the weights are not finite.
            PreemptedError: the process was asked to stop; the state is saved.
            ScfsError: the disk is full, or an image cannot be read.
        """
        first, started = self.step, time.monotonic()
        if first == self.total:
            log(f"already at its last step, {first}: nothing is left to train{self.more}")
            return None
        if first:
            log(f"resuming at step {first} of {self.total}")
        checkpoints = CheckpointManager(folder, save_every)
        shown = track(batches, self.task, unit="step", total=self.total, note=self.note, first=first)

        def step_seconds() -> float | None:
            done = self.step - first
            return (time.monotonic() - started) / done if done else None

        try:
            with stop_signals(step_seconds) as received, self.while_running(folder):
                for batch in shown:
                    self.record(self.train_step(batch))
                    self._save_or_stop(checkpoints, received)
        finally:
            checkpoints.wait()
        return (time.monotonic() - started) / (self.total - first)

    def note(self) -> str:
        """Show the latest loss and the learning rate in progress lines."""
        return f"loss {self.terms['loss']:.4g}, lr {self.lr(self.step):.3g}" if self.terms else ""

    def _save_or_stop(self, checkpoints: CheckpointManager, received: list[int]) -> None:
        """Save if it is time, after the last step and at a signal, which then ends the training, in all processes."""
        due = collectives.is_first() and checkpoints.is_due()
        signal, saving = collectives.all_reduce_max(received[0] if received else 0, due)
        if self.step == self.total or signal or saving:
            self.check_finite()
            if collectives.is_first():
                checkpoints.save(self.step, self.state())
        if signal and self.step < self.total:
            checkpoints.wait()
            collectives.barrier()  # the first process to end would make torchrun end the one that writes
            raise PreemptedError(signal, self.step, self.total)


def prepare_process(threads: int, device: str) -> torch.device:
    """Set this process up for a training, and choose its device.

    Args:
        threads: torch threads.
        device: "auto", "cpu" or "cuda".

    Raises:
        ScfsError: the device is unknown or not there.
    """
    torch.set_num_threads(threads)
    keep_freed_memory()
    return collectives.local_device(resolve_device(device))


@contextmanager
def hold_run(folder: Path, identity: str) -> Iterator[None]:
    """Make sure that all processes do the same training, and keep others out of its folder.

    Raises:
        ScfsError: the identities differ, the folder cannot be used, or another process trains in it.
    """
    collectives.check_same("identity of the training (settings, data, weights, precision, threads)", identity)
    with run_lock(folder) if collectives.is_first() else nullcontext():
        yield


def log_sharing(run: str, batch: int, parts: int) -> None:
    """Log what each process, and BatchNorm, see of a batch where that is not all of it."""
    if parts > 1:
        log(f"{run}: {parts} parts per step, BatchNorm sees {batch // parts} images at a time")
    if (size := collectives.world().size) > 1:
        own = -(-batch // parts // size) * parts
        log(f"{run}: {size} processes with up to {own} images of each batch, BatchNorm synchronised over them")
