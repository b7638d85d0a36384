"""The registry of loggers, and all of them as one."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from scfs.config.registry import Registry
from scfs.errors import ScfsError, writing
from scfs.io.progress import log


class Logger(Protocol):
    """Writes scalars of a training into its run folder."""

    def __init__(self, folder: Path, first_step: int) -> None:
        """Go on at `first_step`; points of later steps, which were lost with their state, must be dropped."""

    def log(self, step: int, values: dict[str, float]) -> None:
        """Add a point to the curve of each name."""

    def close(self) -> None:
        """Write what is left."""


LOGGERS: Registry[type[Logger]] = Registry("logger")
"""All of them are used: `@LOGGERS.add("name")` over a class is enough."""
CHOSEN: Registry[type[Logger]] = Registry("--log-to")
"""Loggers that are used if they are named. One that fails, such as without a network, is said and used no more."""


class Loggers:
    """All loggers of `LOGGERS` and those of `CHOSEN` that are named, as one.

    Raises:
        ScfsError: one of `LOGGERS` cannot write, for example on a full disk, and what was written before stays; or a
            name is not among `CHOSEN`, or the package of its logger is not installed.
    """

    def __init__(self, folder: Path, first_step: int, log_to: Sequence[str] = ()) -> None:
        """Open all loggers; see `Logger`."""
        self.folder, self._chosen = folder, dict[str, Logger]()
        with writing(folder):
            self._loggers = [logger(folder, first_step) for logger in LOGGERS.values()]
        for name, logger in [(name, CHOSEN[name]) for name in log_to]:
            self._try(name, partial(self._open, logger, first_step))

    def _open(self, logger: type[Logger], first_step: int, name: str) -> None:
        self._chosen[name] = logger(self.folder, first_step)

    def _try(self, name: str, call: Callable[[str], None]) -> None:
        try:
            call(name)
        except ModuleNotFoundError as error:
            raise ScfsError(f"--log-to {name}: {error}: pip install {name}, or log to others") from None
        except Exception as error:  # of somebody else's package, which must not end a training
            self._chosen.pop(name, None)
            said = ScfsError(f"{type(error).__name__}: {error}")  # on one line
            log(f"warning: --log-to {name}: {said}; the training goes on without it")

    def log(self, step: int, values: dict[str, float]) -> None:
        """Add a point to the curve of each name."""
        with writing(self.folder):
            for logger in self._loggers:
                logger.log(step, values)
        for name in list(self._chosen):
            self._try(name, lambda name: self._chosen[name].log(step, values))

    def close(self) -> None:
        """Close all loggers."""
        for name in list(self._chosen):
            self._try(name, lambda name: self._chosen[name].close())
        with writing(self.folder):
            for logger in self._loggers:
                logger.close()
