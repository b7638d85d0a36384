"""Batches of views for pre-training: batch t is a function of seed, t and images, whoever makes it, in any order."""

import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from scfs.config.pretrain import Views
from scfs.data.image_set import ImageSet
from scfs.errors import ScfsError
from scfs.io.progress import log
from scfs.runtime.philox import permutation
from scfs.runtime.world import World
from scfs.views.augmentation import BOX, GLOBAL_NUMBER, augmentation_parameters
from scfs.views.colour import augment
from scfs.views.colour_batched import Colour, device_parameters
from scfs.views.images import Pixels, crop_resize
from scfs.views.shared_memory import BufferPool, receive, shared_tensor
from scfs.views.workers import MORE_MEMORY, PREFETCH_FACTOR, prefetch, read_image

SHM = "/dev/shm"
CROP_BOX = (*BOX, "flip")


class Batch(NamedTuple):
    """The views of B images, crop-major: the crops of view v are at v * B to (v + 1) * B - 1."""

    step: int
    """Optimiser step of the run, from 0."""
    rows: Tensor
    """Rows of the images in their image set, (B,) int64."""
    global_crops: Tensor
    """(2B, S, S, 3) uint8."""
    local_crops: Tensor | None
    """(N * B, s, s, 3) uint8; None without local crops."""
    crop_boxes: Tensor | None = None
    """Top, left, height, width of each crop in its image in pixels, and 1 if it is mirrored, (2 + N, B, 5) int32."""
    colour: Tensor | None = None
    """Parameters of what the device still has to do, (2 + N, B, P), see `device_parameters`; None: nothing."""

    def parts(self, number: int) -> "list[Batch]":
        """Cut the batch into `number` batches of consecutive images."""
        if number == 1:
            return [self]
        B = len(self.rows)

        def cut(values: Tensor | None, crop_major: bool = False) -> list[Any]:
            if values is None:
                return [None] * number
            if crop_major:
                return [part.flatten(0, 1) for part in values.unflatten(0, (-1, B)).chunk(number, dim=1)]
            return list(values.chunk(number, dim=1))

        crops = cut(self.global_crops, crop_major=True), cut(self.local_crops, crop_major=True)
        pieces = zip(self.rows.chunk(number), *crops, cut(self.crop_boxes), cut(self.colour), strict=True)
        return [Batch(self.step, *piece) for piece in pieces]


@dataclass(eq=False)
class ViewBatches(Dataset[Batch]):
    """All batches of a pre-training, indexed by the global step.

    Each epoch takes one permutation of the images and its first floor(n / B) * B.

    Raises:
        ScfsError: fewer images than one batch, or fewer in a part than processes; when indexed: an
            image that cannot be read.
    """

    images: ImageSet
    views: Views
    """Crops and augmentation."""
    batch: int
    """Images per batch, B."""
    epochs: int
    """Passes over the data."""
    seed: int
    """Seed of order and augmentation."""
    parts: int = 1
    """Number of equal parts in which a batch is computed."""
    world: World = World()  # noqa: RUF009 (it cannot be changed)
    """Place of this process, which makes its images of every part; together all make the same batches."""
    colour: Colour = "cpu"
    """"device": crops are only cut and resized, and the batch carries the parameters of the rest."""
    memory: tuple[Tensor, ...] | None = None
    """Tensors of `shapes()` into which the next batch's crops are written; None: newly allocated ones."""

    def __post_init__(self) -> None:
        number, size = len(self.images), self.batch // self.parts
        if number < self.batch:
            name = f"data set '{self.images.name}', split '{self.images.split}'"
            raise ScfsError(f"{name}: {number} images, fewer than a batch of {self.batch}")
        self.world.require_share(size)
        self.steps_per_epoch = number // self.batch
        self._order: tuple[int, npt.NDArray[np.int64]] | None = None

    def __len__(self) -> int:
        return self.epochs * self.steps_per_epoch

    def __getitem__(self, step: int) -> Batch:
        if not 0 <= step < len(self):
            raise IndexError(f"step {step} of {len(self)}")
        views, (epoch, place) = self.views, divmod(step, self.steps_per_epoch)
        rows = self._shard(self._permutation(epoch)[place * self.batch : (place + 1) * self.batch])
        sizes = np.stack((self.images.heights[rows], self.images.widths[rows]), -1)
        drawn = augmentation_parameters(self.seed, epoch, rows, sizes, views)

        global_crops, local_crops = self.memory or (_allocate(shape) for shape in self.shapes())
        crops = [*global_crops.numpy(), *local_crops.numpy()]
        for index, row in enumerate(rows):
            image = read_image(self.images, int(row))
            _make_views(image, drawn[index], [of_view[index] for of_view in crops], self.colour)
        return Batch(
            step,
            torch.from_numpy(rows.copy()),
            global_crops.flatten(0, 1),
            local_crops.flatten(0, 1) if views.local_number else None,
            torch.from_numpy(np.stack([drawn[name].T for name in CROP_BOX], axis=-1).astype(np.int32)),
            torch.from_numpy(device_parameters(drawn.T, views.sigma[1])) if self.colour == "device" else None,
        )

    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the shapes of a batch's global and local crops, (V, B, S, S, 3), with B images of this process."""
        views, own = self.views, len(self._shard(np.arange(self.batch)))
        return (
            (GLOBAL_NUMBER, own, views.global_size, views.global_size, 3),
            (views.local_number, own, views.local_size, views.local_size, 3),
        )

    def _shard(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Select this process's rows of each part of a batch, (B,) -> (at most ceil(B / W),)."""
        return rows.reshape(self.parts, -1)[:, self.world.shard(len(rows) // self.parts)].reshape(-1)

    def _permutation(self, epoch: int) -> npt.NDArray[np.int64]:
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, permutation(self.seed, epoch, len(self.images))
        return self._order[1]


def _make_views(image: Pixels, rows: npt.NDArray[np.void], outs: list[Pixels], colour: Colour) -> None:
    """Crop and resize all views of an image into the batch, while it is in the processor's cache; then augment them."""
    for row, out in zip(rows, outs, strict=True):
        box = int(row["top"]), int(row["left"]), int(row["height"]), int(row["width"])
        crop_resize(image, box, len(out), out)
        if row["vertical_flip"]:
            out[:] = out[::-1].copy()
        if row["rotate90"]:
            out[:] = np.rot90(out).copy()
    if colour == "cpu":
        for row, out in zip(rows, outs, strict=True):
            augment(out, row)


def _allocate(shape: tuple[int, ...]) -> Tensor:
    """Allocate a uint8 tensor; in a worker in shared memory, so that sending the batch copies nothing."""
    return torch.empty(shape, dtype=torch.uint8) if get_worker_info() is None else shared_tensor(shape)


class _PooledBatches:
    """Batches that a worker writes into buffers of a pool, and sends as the numbers of the buffers."""

    def __init__(self, data: ViewBatches, pool: BufferPool) -> None:
        self.data, self.pool = data, pool

    def __getitem__(self, index: tuple[int, int | None]) -> "Batch | _PooledBatch":
        step, buffer = index
        self.data.memory = None if buffer is None else self.pool.buffers[buffer]
        batch = self.data[step]
        return batch if buffer is None else _PooledBatch(self.pool.number, buffer, batch)


class _PooledBatch:
    """A batch in a pool's buffer; unpickled by the process that made the pool it is an ordinary batch again."""

    def __init__(self, pool: int, buffer: int, batch: Batch) -> None:
        self.pool, self.buffer, self.batch = pool, buffer, batch

    def __reduce__(self) -> tuple[Any, ...]:
        # As arrays, since a tensor would be sent as a file of shared memory.
        batch = self.batch
        arrays = [None if part is None else part.numpy() for part in (batch.rows, batch.crop_boxes, batch.colour)]
        return _receive, (self.pool, self.buffer, batch.step, *arrays)


def _receive(pool: int, buffer: int, step: int, *arrays: npt.NDArray[Any] | None) -> Batch:
    global_crops, local_crops = (crops.flatten(0, 1) for crops in receive(pool, buffer))
    rows, crop_boxes, colour = (None if part is None else torch.from_numpy(part) for part in arrays)
    assert rows is not None
    return Batch(step, rows, global_crops, local_crops if len(local_crops) else None, crop_boxes, colour)


def batches(dataset: ViewBatches, start_step: int, workers: int, pin_memory: bool | None = None) -> Iterator[Batch]:
    """Yield the batches from `start_step` to the end, in order.

    Args:
        dataset: the batches.
        start_step: first global step.
        workers: processes that make batches; 0 makes them in this one.
        pin_memory: make page-locked batches for a GPU; by default if there is one.

    Raises:
        ScfsError: an image cannot be read, or a worker died.
    """
    pin = torch.cuda.is_available() if pin_memory is None else pin_memory
    steps = range(start_step, len(dataset))
    # Batches that workers prepare, and three more: in use by the trainer, just released by it, and being pinned.
    buffers = [min(len(steps), PREFETCH_FACTOR * number + 3) for number in range(1, workers + 1)]
    # Where there is no such folder (macOS), nothing limits shared memory in this way.
    free = shutil.disk_usage(SHM).free / dataset.world.core_sharers if Path(SHM).is_dir() else math.inf
    size = sum(map(math.prod, dataset.shapes()))
    if (fitting := sum(number * size < 0.9 * free for number in buffers)) < workers:
        need = f"{workers} loader workers need {buffers[-1] * size / 2**20:.1f} MiB: {fitting} of them are started"
        log(f"warning: {SHM}: {free / 2**20:.1f} MiB are free for this process, and {need}; to have all: {MORE_MEMORY}")
    if not fitting:
        yield from prefetch(dataset, steps, 0, pin)
        return
    pool = BufferPool(dataset.shapes(), buffers[fitting - 1])
    yield from prefetch(_PooledBatches(dataset, pool), pool.assign(steps), fitting, pin)
