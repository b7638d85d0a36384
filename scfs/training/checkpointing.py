"""Checkpoints of a running pre-training: whole or not at all, verified, the newest two kept.

A file is named `step-<step>-<first 16 digits of its SHA-256>.pt`, so that one atomic rename publishes content and
checksum together.
"""

import hashlib
import io
import re
import time
import warnings
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from scfs.errors import ScfsError
from scfs.io.atomic import write_with
from scfs.io.progress import log
from scfs.runtime import collectives
from scfs.runtime.stop_signals import PreemptedError

NAME = re.compile(r"step-(\d{9})-([0-9a-f]{16})\.pt")
KEPT = 2


def snapshot(value: Any) -> Any:
    """Copy a nest of dictionaries, lists and tensors to the CPU, so that training may go on while it is written."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: snapshot(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(snapshot(item) for item in value)
    return value


def _content(path: Path) -> bytes:
    """Bytes of a file; none of one that the disk does not give back, which is as good as damaged."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


class Checkpoints:
    """The checkpoints in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Copy `state` now and write it in the background; waits for the write before it.

        Raises:
            ScfsError: the write before this one failed (a full disk, say). What was saved earlier is still there.
        """
        self.wait()
        self._pending = self._writer.submit(self._write, step, snapshot(state))

    def wait(self) -> None:
        """Wait until everything is on the disk.

        Raises:
            ScfsError: the last write failed.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def load(self) -> dict[str, Any] | None:
        """State of the newest sound checkpoint; damaged ones are reported and set aside. None if there is no file.

        Raises:
            ScfsError: there are checkpoints and all of them are damaged.
        """
        for debris in self.folder.glob(".step-*.tmp"):  # of a writer that was killed; the run's lock is ours
            debris.unlink(missing_ok=True)
        for path in reversed(self._found()):
            data = _content(path)
            if hashlib.sha256(data).hexdigest().startswith(path.stem.rpartition("-")[2]):
                state: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
                return state
            log(f"warning: {path}: damaged (its SHA-256 is not the one in its name); using the one before it")
            path.rename(path.with_suffix(".damaged"))  # so that it does not count as one of the newest two
        if list(self.folder.glob("step-*.damaged")):
            raise ScfsError(f"{self.folder}: all checkpoints are damaged; remove the folder to start anew")
        return None

    def _found(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("step-*.pt") if NAME.fullmatch(path.name))

    def _write(self, step: int, state: dict[str, Any]) -> None:
        buffer = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.save(state, buffer)
        data = buffer.getbuffer()
        path = self.folder / f"step-{step:09d}-{hashlib.sha256(data).hexdigest()[:16]}.pt"
        try:
            write_with(path, lambda file: file.write(data))
        except ScfsError as error:
            kept = self._found()
            newest = f"the newest one kept is {kept[-1].name}" if kept else "none had been saved yet"
            raise ScfsError(f"checkpoint of step {step}: {error}; {newest}") from None
        for old in [*self._found()[:-KEPT], *self.folder.glob("step-*.damaged")]:
            old.unlink(missing_ok=True)


class Resumable(Protocol):
    """A training that can be saved after any step."""

    identity: str
    step: int
    """Steps done."""

    def state(self) -> dict[str, Any]:
        """Everything that an exact resume needs, with `identity` and `step`."""

    def restore(self, state: dict[str, Any], source: Path) -> None:
        """Take over the state of a checkpoint; raises ScfsError where it does not fit."""

    def check_finite(self) -> None:
        """Raise ScfsError where the state is not fit to be saved."""


def resume(training: Resumable, folder: Path) -> None:
    """Go to the newest checkpoint of the run folder, if it has any.

    Raises:
        ScfsError: they are all damaged, of another run, or do not fit.
    """
    found = Checkpoints(folder / "checkpoints").load() if collectives.is_first() else None
    state = collectives.broadcast_object(found)
    if state is not None:
        training.restore(state, folder)


def check_identity(state: dict[str, Any], identity: str, source: Path) -> None:
    """Hold a checkpoint to the run that asks for it.

    Raises:
        ScfsError: it belongs to another run.
    """
    if state["identity"] != identity:
        raise ScfsError(
            f"{source}: its checkpoints are of identity {state['identity']}, this run's is {identity} (other"
            " settings, data, precision or code version); choose another folder or remove this one"
        )


class Keeper:
    """Saves a training when it is time, at the same step in all processes, of which the first one writes."""

    def __init__(self, folder: Path, save_every: float) -> None:
        """Take the run folder and the seconds between checkpoints."""
        self.checkpoints = Checkpoints(folder / "checkpoints")
        self._save_every, self._saved = save_every, time.monotonic()

    def after_step(self, training: Resumable, total: int, received: list[int]) -> None:
        """Save if time has passed, the last of `total` steps is done or a signal was received; then stop for a signal.

        Raises:
            PreemptedError: it is to stop; the state is saved.
            ScfsError: its state must not be saved, or the disk is full.
        """
        due = collectives.is_first() and time.monotonic() - self._saved >= self._save_every
        stopped_by, saving = collectives.all_reduce_max(received[0] if received else 0, due)
        if training.step == total or stopped_by or saving:
            training.check_finite()
            if collectives.is_first():
                self.checkpoints.save(training.step, training.state())
            self._saved = time.monotonic()
        if stopped_by and training.step < total:
            self.checkpoints.wait()
            collectives.barrier()  # the first to end would make torchrun end the one that writes
            raise PreemptedError(stopped_by, training.step, total)
