"""/dev/shm is too small, as Docker's 64 MB often are: fewer workers are started, and every failure is one line."""

from collections import namedtuple
from typing import Any

import pytest
import torch
from image_samples import small_images

from scfs.config.pretrain import Views
from scfs.errors import ScfsError
from scfs.runtime.world import World
from scfs.views import loader
from scfs.views.loader import ViewBatches, batches
from scfs.views.shared_memory import BufferPool
from scfs.views.workers import prefetch

VIEWS = Views(global_size=16, local_size=8, local_number=3)
BYTES = 4 * 3 * (2 * 16 * 16 + 3 * 8 * 8)
"""Of a batch of four images."""


def free_is(monkeypatch: pytest.MonkeyPatch, size: float) -> None:
    usage = namedtuple("usage", "free")(int(size))
    monkeypatch.setattr(loader.shutil, "disk_usage", lambda place: usage)


@pytest.mark.parametrize(("places", "workers", "sharers"), [(10, 3, 1), (8, 2, 1), (4, 0, 1), (0, 0, 1), (12, 1, 2)])
def test_workers_that_have_no_room_are_not_started(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], places: int, workers: int, sharers: int
) -> None:
    """Two batches for each worker and three more; with a tenth to spare."""
    free_is(monkeypatch, places * BYTES / 0.9)
    started: list[int] = []
    whole = loader.prefetch
    monkeypatch.setattr(
        loader, "prefetch", lambda items, order, number, pin: started.append(number) or whole(items, order, 0, pin)
    )
    data = ViewBatches(small_images(8), VIEWS, 4, 20, 0, world=World(core_sharers=sharers))
    monkeypatch.setattr(loader, "BufferPool", lambda shapes, number: NoPool())
    assert len(list(batches(data, 0, 3))) == 40
    assert started == [workers]
    said = (
        f"MiB are free for this process, and 3 loader workers need 0.1 MiB: {workers} of them are started; to have all"
    )
    assert (said in capsys.readouterr().err) == (workers < 3)


class NoPool:
    number = 0

    def assign(self, steps: Any) -> Any:
        return ((step, None) for step in steps)


class CannotBeSent:
    def __reduce__(self) -> Any:
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")


class Items:
    def __getitem__(self, index: int) -> Any:
        return CannotBeSent() if index == 1 else index


def test_an_item_that_cannot_be_sent_ends_in_one_line() -> None:
    with pytest.raises(
        ScfsError, match=r"^a loader worker died, .*--workers 0\), or give the container a larger /dev/shm"
    ):
        list(prefetch(Items(), range(3), 1))


@pytest.mark.parametrize("message", ["DataLoader worker (pid 7) is killed by signal: Bus error.", "[Errno 28] No space left on device",
                                     "unable to open shared memory object </torch_1> in read-write mode"])  # fmt: skip
def test_whatever_torch_raises_is_one_line(monkeypatch: pytest.MonkeyPatch, message: str) -> None:
    def fails(*arguments: Any, **options: Any) -> Any:
        raise RuntimeError(message)

    monkeypatch.setattr(torch.utils.data.DataLoader, "__iter__", fails)
    with pytest.raises(ScfsError, match="a loader worker died, most likely for want of memory"):
        list(prefetch(Items(), range(3), 1))
    with pytest.raises(RuntimeError):
        list(prefetch(Items(), range(3), 0))


def test_buffers_without_room_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(size: int) -> Any:
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")

    monkeypatch.setattr(torch.UntypedStorage, "_new_shared", full)
    with pytest.raises(ScfsError, match=r"no shared memory: unable to allocate.*: take fewer loader workers"):
        BufferPool([(2, 3)], 1)
