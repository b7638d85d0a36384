"""TensorBoard and DVCLive scalars of one run folder; rates in them are true of one execution only."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scfs.errors import ScfsError


class Scalars:
    """Both writers. A failed write (a full disk) is an ScfsError; what was written before stays."""

    def __init__(self, folder: Path, first_step: int) -> None:
        """Go on at `first_step`: later points, of steps that were lost with their state, are dropped."""
        # Imported here: together they cost two seconds that `epochs: 0` need not pay.
        from dvclive import Live
        from torch.utils.tensorboard import SummaryWriter

        class Files(Live):
            """DVCLive's files alone: by itself it makes a DVC repository of the git repository that it runs in."""

            def _init_dvc(self) -> None:
                self._exp_name = None

        self.folder, self._hook = folder, threading.excepthook
        threading.excepthook = self._thread_failed
        resumed = first_step > 0
        with self._one_line():
            _drop_points(folder / "dvclive", first_step)
            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step)
            self._live = Files(str(folder / "dvclive"), resume=resumed, report=None, save_dvc_exp=False, dvcyaml=None)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Add one point to every curve."""
        with self._one_line():
            self._live.step = step
            for name, value in values.items():
                self._board.add_scalar(name, value, step)
                self._live.log_metric(name, value)
            self._live.make_summary()

    def close(self) -> None:
        """Flush both."""
        try:
            with self._one_line():
                self._board.close()
                self._live.end()
        finally:
            threading.excepthook = self._hook

    @contextmanager
    def _one_line(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ScfsError(f"{self.folder}: scalars could not be written: {error.strerror or error}") from error

    def _thread_failed(self, arguments: threading.ExceptHookArgs) -> None:
        """TensorBoard writes in a thread, whose traceback says nothing more: `add_scalar` raises the error next."""
        if not isinstance(arguments.exc_value, OSError):
            self._hook(arguments)


def _drop_points(folder: Path, first_step: int) -> None:
    """Drop points from `first_step` on, and what a killed process left half written: a last line, or a whole file."""
    for file in (folder / "plots" / "metrics").rglob("*.tsv"):
        lines = [line for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]
        if not lines:
            file.unlink()
            continue
        header, *points = lines
        column = header.rstrip("\n").split("\t").index("step")
        file.write_text(header + "".join(p for p in points if int(p.rstrip("\n").split("\t")[column]) < first_step))
