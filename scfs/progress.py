"""Progress for anything over a few seconds: a bar on a terminal, one plain line per ten seconds elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
PLAIN_LINE_SECONDS = 10.0


def log(message: str) -> None:
    """Print one line on stderr without breaking a bar."""
    tqdm.write(message, file=sys.stderr)
    sys.stderr.flush()


def track(items: Iterable[T], description: str, unit: str = "it", total: int | None = None) -> Iterator[T]:
    """Yield `items` and show how far they are; `total` defaults to their length where they have one."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    if sys.stderr.isatty():
        yield from tqdm(items, desc=description, unit=unit, total=total, dynamic_ncols=True, leave=False)
        return
    started = last = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if now - last >= PLAIN_LINE_SECONDS:
            of = f"/{total}" if total else ""
            log(f"{description}: {done}{of} {unit}, {done / (now - started):.1f} {unit}/s")
            last = now
        yield item
