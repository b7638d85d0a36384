"""Loader workers: processes that read and decode images; every failure is one clear line."""

import atexit
import re
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from multiprocessing.queues import Queue
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch.utils.data import DataLoader, Dataset

from scfs.config.data import MAX_PIXELS
from scfs.data.decoding import decode
from scfs.errors import ScfsError
from scfs.views.images import Pixels

if TYPE_CHECKING:
    from scfs.data.image_set import ImageSet


MORE_MEMORY = "take fewer loader workers or none (--workers 0), or give the container a larger /dev/shm (--shm-size 8g)"
PREFETCH_FACTOR = 2
"""Items that each worker may prepare before the main process takes them."""


def read_image(images: "ImageSet", row: int) -> Pixels:
    """Read and decode an image, (H, W, 3) uint8, and check its size against the manifest.

    Raises:
        ScfsError: it cannot be read or decoded, or its size differs from when the data were prepared.
    """
    name = images.where(row)
    expected = int(images.heights[row]), int(images.widths[row])
    image = decode(images.read(row), name, max(MAX_PIXELS, expected[0] * expected[1]))
    if image.shape[:2] != expected:
        sizes = "{}x{} pixels, but {}x{}".format(*image.shape[:2], *expected)
        raise ScfsError(f"{name}: {sizes} when the data were prepared: prepare them again")
    return image


class Items(Protocol):
    """Anything that makes an item from an index."""

    def __getitem__(self, index: Any, /) -> Any: ...


class _ErrorsAsItems(Dataset[Any]):
    """Items that return an error instead of raising it, since DataLoader would hide its one line in a traceback."""

    def __init__(self, items: Items) -> None:
        self.items = items

    def __getitem__(self, index: Any) -> Any:
        try:
            return self.items[index]
        except ScfsError as error:
            return error


def prefetch(items: Items, order: Iterable[Any], workers: int, pin_memory: bool = False) -> Iterator[Any]:
    """Yield items[i] for i in `order`, made in advance by `workers` processes (0: made in this process).

    Raises:
        ScfsError: an image cannot be read, or a worker died.
    """
    loader = DataLoader(
        _ErrorsAsItems(items),
        batch_size=None,
        sampler=order,
        num_workers=workers,
        prefetch_factor=PREFETCH_FACTOR if workers else None,
        worker_init_fn=_start_worker,
        pin_memory=pin_memory,
        # DataLoader draws a seed when it starts; drawn from the global generator, it would change a resumed run.
        generator=torch.Generator(),
    )
    try:
        iterator = iter(loader)
        with _stopped(iterator) if workers else nullcontext():
            for item in iterator:
                if isinstance(item, ScfsError):
                    raise item
                yield item
    except (OSError, RuntimeError) as error:
        if workers and re.search("^DataLoader worker|shared memory|No space left|Cannot allocate", str(error)):
            raise ScfsError(f"a loader worker died, most likely for want of memory: {error}: {MORE_MEMORY}") from error
        raise


@contextmanager
def _stopped(iterator: Any) -> Iterator[None]:
    """Stop the workers at the end of the block, or at exit if an uncaught error keeps the loop alive in its traceback.

    Otherwise Python would send the workers SIGTERM, which they ignore, and wait for them for ever.
    """
    stop = iterator._shutdown_workers
    atexit.register(stop)
    try:
        yield
    finally:
        atexit.unregister(stop)
        stop()


def _start_worker(worker: int) -> None:
    """Use one thread in a worker, and leave the signals that the whole process group gets to the main process.

    A worker ends when the main process leaves the loop or dies. A worker that died of SIGTERM would make the main
    process fail while it saves its state.
    """
    torch.set_num_threads(1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    # A thread sends the items. One that does not fit into /dev/shm would be lost, and the main process wait for ever.
    Queue._on_queue_feeder_error = staticmethod(lambda error, item: signal.raise_signal(signal.SIGKILL))  # type: ignore[attr-defined]
