"""Checkpoints of a running training: written whole or not at all, verified by a checksum, the newest two kept.

A file is named `step-<step>-<first 16 digits of its SHA-256>.pt`, so that one atomic rename publishes content and
checksum together.
"""

import hashlib
import io
import math
import re
import time
import warnings
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from scfs.errors import ScfsError
from scfs.io.atomic import write_with
from scfs.io.progress import log

NAME = re.compile(r"step-(\d{9})-([0-9a-f]{16})\.pt")
KEPT = 2


def snapshot(value: Any) -> Any:
    """Copy nested dictionaries, lists and tensors to the CPU, so that training may go on while the copy is written."""
    return tree_map_only(Tensor, lambda tensor: tensor.detach().to("cpu", copy=True), value)


def _content(path: Path) -> bytes:
    """Read a file; one that the disk cannot give back counts as damaged, so its content is empty."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


class CheckpointManager:
    """Writes the checkpoints of one run folder in the background, and finds the newest one that is sound."""

    def __init__(self, run_folder: Path, save_every: float = math.inf) -> None:
        """Take the run folder and the seconds between checkpoints."""
        self.folder = run_folder / "checkpoints"
        self._save_every, self._saved_at = save_every, time.monotonic()
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None

    def is_due(self) -> bool:
        """True if so much time has passed since the last checkpoint that it is time for another one."""
        return time.monotonic() - self._saved_at >= self._save_every

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Copy `state` now and write it in the background, after waiting for the previous write.

        Raises:
            ScfsError: the previous write failed, for example on a full disk. Earlier checkpoints are still there.
        """
        self.wait()
        self._pending = self._writer.submit(self._write, step, snapshot(state))
        self._saved_at = time.monotonic()

    def wait(self) -> None:
        """Wait until every checkpoint is on the disk.

        Raises:
            ScfsError: the last write failed.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def load(self) -> dict[str, Any] | None:
        """Read the newest sound checkpoint; damaged ones are reported and set aside. None if there is no file.

        Raises:
            ScfsError: there are checkpoints and all of them are damaged.
        """
        for debris in self.folder.glob(".step-*.tmp"):  # left by a killed writer; this process holds the run lock
            debris.unlink(missing_ok=True)
        for path in reversed(self._files()):
            data = _content(path)
            if hashlib.sha256(data).hexdigest().startswith(path.stem.rpartition("-")[2]):
                state: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
                return state
            log(f"warning: {path}: damaged (its SHA-256 is not the one in its name); using the one before it")
            path.rename(path.with_suffix(".damaged"))  # so that it does not count as one of the newest two
        if list(self.folder.glob("step-*.damaged")):
            raise ScfsError(f"{self.folder}: all checkpoints are damaged; remove the folder to start anew")
        return None

    def _files(self) -> list[Path]:
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
            kept = self._files()
            newest = f"the newest one kept is {kept[-1].name}" if kept else "none had been saved yet"
            raise ScfsError(f"checkpoint of step {step}: {error}; {newest}") from None
        for old in [*self._files()[:-KEPT], *self.folder.glob("step-*.damaged")]:
            old.unlink(missing_ok=True)
