"""Work in threads ahead of its use: results in order, and not more in memory than a bound."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

MOST_BYTES = 64 << 20
MOST_ITEMS = 512


def ahead(items: Iterable[T], work: Callable[[T], R], size: Callable[[T], int]) -> Iterator[tuple[T, R]]:
    """Yield items with what `work` makes of them in threads, in order.

    Args:
        items: taken in this thread, one after the other, as far ahead as the bounds allow.
        work: for functions that leave Python's lock, such as decoding, hashing and writing.
        size: bytes that an item holds in memory.

    Raises:
        Exception: what `items` or `work` raises; no item behind it is yielded.
    """
    waiting: deque[tuple[T, Future[R]]] = deque()
    held = 0
    with ThreadPoolExecutor() as pool:
        try:
            for item in items:
                waiting.append((item, pool.submit(work, item)))
                held += size(item)
                while held > MOST_BYTES or len(waiting) > MOST_ITEMS:
                    first, future = waiting.popleft()
                    held -= size(first)
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            for _, future in waiting:
                future.cancel()
