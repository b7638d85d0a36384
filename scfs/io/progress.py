"""Progress for anything over a few seconds: a bar on a terminal, one plain line per ten seconds elsewhere.

With a log file there are only plain lines, which go into it too: two jobs side by side cannot share a bar's line. The
bars are rich's, which comes with typer; without it there are plain lines on a terminal too.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import suppress
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any, TextIO, TypeVar

from scfs.errors import writing

T = TypeVar("T")
PLAIN_LINE_SECONDS = 10.0
BAR_SECONDS = 0.25

_log_files: list[TextIO] = []
_prefix = ""
_silent = False
_bars: Any = None
"""rich's Progress while there are bars on the terminal."""
_bars_lock = Lock()


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
    if (bars := _bars) is not None:
        bars.console.print(_prefix + message, markup=False, highlight=False, emoji=False, soft_wrap=True)
    else:
        print(_prefix + message, file=sys.stderr, flush=True)
    for file in _log_files:
        with suppress(OSError):  # a full disk must not hide the message, nor end the work
            file.write(message + "\n")


class _Bar:
    """A bar on the terminal, below those of the loops around this one; it appears when it is first shown."""

    def __init__(self, description: str) -> None:
        self._description, self._task = description, None

    def show(self, done: int, total: int | None, text: str) -> None:
        global _bars
        with _bars_lock:
            if _bars is None:
                from rich.console import Console
                from rich.progress import BarColumn, Progress

                columns = "{task.description}", BarColumn(24), "{task.fields[text]}"
                _bars = Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False)
                _bars.start()
            if self._task is None:
                self._task = _bars.add_task(self._description, total=total, text=text)
            _bars.update(self._task, completed=done, text=text, refresh=True)

    def close(self) -> None:
        if self._task is not None and (bars := _bars) is not None:
            bars.remove_task(self._task)
            if not bars.tasks:
                close_bars()


def close_bars() -> None:
    """Take all bars off the terminal, and show its cursor again."""
    global _bars
    with _bars_lock:
        if _bars is not None:
            _bars.stop()
            _bars = None


def track(
    items: Iterable[T],
    description: str,
    unit: str = "it",
    total: int | None = None,
    note: Callable[[], str] = lambda: "",
    first: int = 0,
) -> Iterator[T]:
    """Yield `items` and show how far they are.

    Args:
        items: what is worked on.
        description: what is done with it.
        unit: what an item is.
        total: number of items, with the `first` ones; default: their length where they have one.
        note: text to show after the speed.
        first: number of items that were done by an earlier execution, and are not among `items`.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if _silent:
        yield from items
        return
    bar = _Bar(description) if sys.stderr.isatty() and not _log_files and find_spec("rich") else None
    started, done, of = time.monotonic(), first, f"/{total}" if total else ""
    ended = Event()

    def show_regularly() -> None:  # from a thread: a single item may take longer than that
        while not ended.wait(BAR_SECONDS if bar else PLAIN_LINE_SECONDS):
            rate = (done - first) / (time.monotonic() - started)
            speed = f"{1 / rate:.1f} s/{unit}" if 0 < rate < 1 else f"{rate:.1f} {unit}/s"
            left = f"{timedelta(seconds=round((total - done) / rate))} left" if total and rate else ""
            text = ", ".join(filter(None, (f"{done}{of} {unit}", speed, note(), left)))
            if bar:
                bar.show(done, total, text)
            else:
                log(f"{description}: {text}")

    thread = Thread(target=show_regularly, name="progress", daemon=True)
    thread.start()
    try:
        for item in items:
            yield item
            done += 1
    finally:
        ended.set()
        thread.join()
        if bar:
            bar.close()
