"""The one exception that a user is meant to see: its text is one line and `scfs` prints it without a traceback."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

LONGEST = 200
"""Characters of a value in a message."""


def shorten(text: str, most: int = LONGEST) -> str:
    """Cut what lies in the middle of a long text."""
    return text if len(text) <= most else f"{text[: most - most // 4]} ... {text[-most // 4 :]}"


def is_utf8(text: str) -> bool:
    """True unless the text is a name from the system that is not UTF-8, as old archives have them."""
    return text == text.encode(errors="replace").decode()


class ScfsError(Exception):
    """Bad input or a failed run; the message names the file or key, the value and what is allowed, on one line.

    Where a message cannot know how long what it quotes is, the line is cut in its middle.
    """

    def __init__(self, message: str) -> None:
        super().__init__(shorten(" ".join(str(message).split()), 5 * LONGEST))


class ProcessLostError(ScfsError):
    """Another process of the training is gone, so that a collective failed."""


@contextmanager
def refusing(what: str, *kinds: type[Exception], advice: str = "", into: type[Exception] = ScfsError) -> Iterator[None]:
    """Turn errors of some kinds in the block into one line: `what`, why, and the advice; other errors pass.

    Args:
        what: the file or key, and what is wrong with it.
        kinds: errors that mean this.
        advice: end of the line.
        into: error of that line.
    """
    try:
        yield
    except kinds as error:
        reason = repr(error) if isinstance(error, KeyError) else getattr(error, "strerror", None) or error
        raise into(f"{what}: {reason}{advice}") from None


def reading(path: Path | str) -> AbstractContextManager[None]:
    """Turn an OSError of the block into a ScfsError: `path` cannot be read, and why."""
    return refusing(f"{path}: cannot be read", OSError)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError of the block into a ScfsError: `path`, or what lies below it, could not be written, and why."""
    try:
        yield
    except OSError as error:
        place = error.filename if f"{error.filename}".startswith(f"{path}/") else path
        raise ScfsError(f"{place}: could not be written: {error.strerror or error}") from error
