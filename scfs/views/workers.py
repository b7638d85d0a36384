"""Images read by DataLoader processes: each one decoded and checked, every failure one clear line."""

import atexit
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from scfs.errors import ScfsError
from scfs.views.images import Pixels, decode

if TYPE_CHECKING:
    from scfs.data.image_set import ImageSet


AHEAD = 2
"""Items that a worker may have begun and the main process not taken."""


def read_image(images: "ImageSet", row: int) -> Pixels:
    """Decode an image and hold it to the size in the manifest: (H, W, 3) uint8.

    Raises:
        ScfsError: it cannot be read or decoded, or its size is not the one it had when the data were prepared.
    """
    name = images.where(row)
    image = decode(images.read(row), name)
    expected = int(images.heights[row]), int(images.widths[row])
    if image.shape[:2] != expected:
        raise ScfsError(
            f"{name}: {image.shape[0]}x{image.shape[1]} pixels, but {expected[0]}x{expected[1]} when the data were "
            "prepared: prepare them again"
        )
    return image


class Items(Protocol):
    """Anything that makes an item from an index."""

    def __getitem__(self, index: Any, /) -> Any: ...


class _ErrorsAsItems(Dataset[Any]):
    """Returns an image's error instead of raising it: DataLoader would bury its one line in a traceback."""

    def __init__(self, items: Items) -> None:
        self.items = items

    def __getitem__(self, index: Any) -> Any:
        try:
            return self.items[index]
        except ScfsError as error:
            return error


def prefetch(items: Items, order: Iterable[Any], workers: int, pin_memory: bool = False) -> Iterator[Any]:
    """Yield items[i] for i in `order`, made by `workers` processes (0: this one).

    Raises:
        ScfsError: an image cannot be read, or a worker died.
    """
    loader = DataLoader(
        _ErrorsAsItems(items),
        batch_size=None,
        sampler=order,
        num_workers=workers,
        prefetch_factor=AHEAD if workers else None,
        worker_init_fn=_start_worker,
        pin_memory=pin_memory,
        # DataLoader draws a seed when it starts; from the global generator, that would make resuming visible.
        generator=torch.Generator(),
    )
    iterator = iter(loader)
    try:
        with _stopped(iterator) if workers else nullcontext():
            for item in iterator:
                if isinstance(item, ScfsError):
                    raise item
                yield item
    except RuntimeError as error:
        if str(error).startswith("DataLoader worker"):
            raise ScfsError(f"a data loading worker died (out of memory or of /dev/shm?): {error}") from error
        raise


@contextmanager
def _stopped(iterator: Any) -> Iterator[None]:
    """Stop the workers at the end, also when an error nobody catches ends this process, whose traceback keeps the loop.

    Workers ignore the SIGTERM that Python would end them with then, and Python would wait for them for ever.
    """
    stop = iterator._shutdown_workers
    atexit.register(stop)
    try:
        yield
    finally:
        atexit.unregister(stop)
        stop()


def _start_worker(worker: int) -> None:
    """One thread per worker; signals to the whole process group are the main process's to deal with.

    A worker ends when the main process leaves the loop, or is gone. One that died of SIGTERM would make the main
    process fail while that saves its state.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
