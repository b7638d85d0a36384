"""Scalars for TensorBoard, in RUN FOLDER/tensorboard."""

import threading
from pathlib import Path

from scfs.training.loggers.registry import LOGGERS


@LOGGERS.add("tensorboard")
class TensorBoard:
    """Writes event files."""

    def __init__(self, folder: Path, first_step: int) -> None:
        """Go on at `first_step`: TensorBoard hides later points."""
        from torch.utils.tensorboard import SummaryWriter  # not above: the import takes a second

        self._excepthook = threading.excepthook
        threading.excepthook = self._thread_failed
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step)

    def log(self, step: int, values: dict[str, float]) -> None:
        """Add a point to the curve of each name."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is left."""
        try:
            self._writer.close()
        finally:
            threading.excepthook = self._excepthook

    def _thread_failed(self, arguments: threading.ExceptHookArgs) -> None:
        """Hide the traceback of TensorBoard's writing thread: the next `add_scalar` raises the same error."""
        if not isinstance(arguments.exc_value, OSError):
            self._excepthook(arguments)
