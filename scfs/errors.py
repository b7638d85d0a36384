"""The one exception that a user is meant to see: its text is one line and `scfs` prints it without a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class ScfsError(Exception):
    """Bad input or a failed run; the message names the file or key, the value and what is allowed, on one line."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(str(message).split()))


class ProcessLostError(ScfsError):
    """Another process of the training is gone, so that a collective failed."""


@contextmanager
def reading(path: Path | str) -> Iterator[None]:
    """Turn an OSError of the block into a ScfsError: `path` cannot be read, and why."""
    try:
        yield
    except OSError as error:
        raise ScfsError(f"{path}: cannot be read: {error.strerror or error}") from None


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError of the block into a ScfsError: `path`, or what lies below it, could not be written, and why."""
    try:
        yield
    except OSError as error:
        place = error.filename if f"{error.filename}".startswith(f"{path}/") else path
        raise ScfsError(f"{place}: could not be written: {error.strerror or error}") from error
