"""Progress for anything over a few seconds: a bar on a terminal, one plain line per ten seconds elsewhere.

With a log file there are only plain lines, which go into it too: two jobs side by side cannot share a bar's line.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import TextIO, TypeVar

from tqdm import tqdm

from scfs.errors import writing

T = TypeVar("T")
PLAIN_LINE_SECONDS = 10.0

_log_files: list[TextIO] = []
_prefix = ""
_silent = False


def copy_log(path: Path) -> None:
    """Append every later line to `path` too, and begin each line on stderr with its name.

    Raises:
        ScfsError: the file cannot be opened for writing.
    """
    global _prefix
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _log_files.append(path.open("a", buffering=1))
    _prefix = f"[{path.stem}] "


def silence(wanted: bool) -> None:
    """Say nothing from now on, or speak again: of several processes one speaks for all."""
    global _silent
    _silent = wanted


def log(message: str) -> None:
    """Print one line on stderr without breaking a bar."""
    if _silent:
        return
    tqdm.write(_prefix + message, file=sys.stderr)
    sys.stderr.flush()
    for file in _log_files:
        with suppress(OSError):  # a full disk must not hide the message, nor end the work
            file.write(message + "\n")


def track(
    items: Iterable[T],
    description: str,
    unit: str = "it",
    total: int | None = None,
    note: Callable[[], str] = lambda: "",
) -> Iterator[T]:
    """Yield `items` and show how far they are.

    Args:
        items: what is worked on.
        description: what is done with it.
        unit: what an item is.
        total: number of items; default: their length where they have one.
        note: text to show after the speed.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if _silent:
        yield from items
        return
    if sys.stderr.isatty() and not _log_files:
        with tqdm(items, desc=description, unit=unit, total=total, dynamic_ncols=True, leave=False) as bar:
            for item in bar:
                yield item
                bar.set_postfix_str(note(), refresh=False)
        return
    started, done, of = time.monotonic(), 0, f"/{total}" if total else ""
    ended = Event()

    def say_regularly() -> None:  # from a thread: a single item may take longer than that
        while not ended.wait(PLAIN_LINE_SECONDS):
            rate = done / (time.monotonic() - started)
            speed = f"{1 / rate:.1f} s/{unit}" if 0 < rate < 1 else f"{rate:.1f} {unit}/s"
            log(", ".join(filter(None, (f"{description}: {done}{of} {unit}", speed, note()))))

    thread = Thread(target=say_regularly, name="progress", daemon=True)
    thread.start()
    try:
        for item in items:
            yield item
            done += 1
    finally:
        ended.set()
        thread.join()
