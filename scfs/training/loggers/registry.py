"""The registry of loggers, and all of them as one."""

from pathlib import Path
from typing import Protocol

from scfs.config.registry import Registry
from scfs.errors import writing


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


class Loggers:
    """All registered loggers, as one.

    Raises:
        ScfsError: a logger cannot write, for example on a full disk. What was written before stays.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        """Open all loggers; see `Logger`."""
        self.folder = folder
        with writing(folder):
            self._loggers = [logger(folder, first_step) for logger in LOGGERS.values()]

    def log(self, step: int, values: dict[str, float]) -> None:
        """Add a point to the curve of each name."""
        with writing(self.folder):
            for logger in self._loggers:
                logger.log(step, values)

    def close(self) -> None:
        """Close all loggers."""
        with writing(self.folder):
            for logger in self._loggers:
                logger.close()
