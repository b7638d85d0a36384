"""Work in threads ahead of its use: results in order, and not more in memory than a bound."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

MOST_BYTES = 64 << 20
MOST_ITEMS = 512


def ordered_map(items: Iterable[T], work: Callable[[T], R], size: Callable[[T], int]) -> Iterator[tuple[T, R]]:
    """Yield items with what `work` makes of them in threads, in order.

    Args:
        items: taken in this thread, one after the other, as far ahead as the bounds allow.
        work: for functions that leave Python's lock, such as decoding, hashing and writing.
        size: bytes that an item holds in memory.

    Raises:
        Exception: what `items` or `work` raises, after all items before it were yielded and none behind it.
    """
    waiting: deque[tuple[T, Future[R]]] = deque()
    source, held, ended, failure = iter(items), 0, False, None
    with ThreadPoolExecutor() as pool:
        try:
            while not ended:
                try:
                    item = next(source)
                except StopIteration:
                    ended = True
                except Exception as error:
                    ended, failure = True, error
                else:
                    waiting.append((item, pool.submit(work, item)))
                    held += size(item)
                while waiting and (ended or held > MOST_BYTES or len(waiting) > MOST_ITEMS):
                    first, future = waiting.popleft()
                    held -= size(first)
                    yield first, future.result()
            if failure is not None:
                raise failure
        finally:
            for _, future in waiting:
                future.cancel()
