"""What every training does around its steps: one holder of its folder, its newest state, saving, stopping."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from scfs import distributed
from scfs.errors import ScfsError
from scfs.stopping import StoppedError
from scfs.training.checkpoint import Checkpoints


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


@contextmanager
def sole_holder(folder: Path) -> Iterator[None]:
    """Hold the run folder's lock; it is gone with the process, however that ends.

    Raises:
        ScfsError: another process holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("w")
    except OSError as error:
        raise ScfsError(f"{folder}: cannot be used as a run folder: {error.strerror}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ScfsError(f"{folder}: another process is training this run") from None
        yield


def resume(training: Resumable, folder: Path) -> None:
    """Go to the newest checkpoint of the run folder, if it has any.

    Raises:
        ScfsError: they are all damaged, of another run, or do not fit.
    """
    found = Checkpoints(folder / "checkpoints").load() if distributed.is_first() else None
    state = distributed.from_first(found)
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
            StoppedError: it is to stop; the state is saved.
            ScfsError: its state must not be saved, or the disk is full.
        """
        due = distributed.is_first() and time.monotonic() - self._saved >= self._save_every
        stopped_by, saving = distributed.largest(received[0] if received else 0, due)
        if training.step == total or stopped_by or saving:
            training.check_finite()
            if distributed.is_first():
                self.checkpoints.save(training.step, training.state())
            self._saved = time.monotonic()
        if stopped_by and training.step < total:
            self.checkpoints.wait()
            distributed.wait_for_all()  # the first to end would make torchrun end the one that writes
            raise StoppedError(stopped_by, training.step, total)
