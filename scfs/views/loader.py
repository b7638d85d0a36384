"""Batches of views for pre-training: batch t is a function of seed, t and images, whoever makes it, in any order."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from scfs.config.pretrain import Views
from scfs.data.image_set import ImageSet
from scfs.errors import ScfsError
from scfs.runtime.philox import permutation
from scfs.runtime.world import World
from scfs.views.augmentation_table import GLOBAL_NUMBER, augmentation_table
from scfs.views.colour import augment
from scfs.views.colour_batched import Colour, device_parameters
from scfs.views.images import Pixels, crop_resize
from scfs.views.shared_memory import BufferPool, arrived, shared
from scfs.views.workers import AHEAD, prefetch, read_image

PLACEMENT = ("top", "left", "height", "width", "flip")


class Batch(NamedTuple):
    """The views of B images, crop-major: the crops of view v are at v * B to (v + 1) * B - 1."""

    step: int
    """Global step, from 0."""
    rows: Tensor
    """(B,) int64: the images' rows in their image set."""
    global_crops: Tensor
    """(2B, S, S, 3) uint8."""
    local_crops: Tensor | None
    """(N * B, s, s, 3) uint8; None without local crops."""
    crop_boxes: Tensor | None = None
    """(2 + N, B, 5) int32: top, left, height, width of each crop in its image, in pixels; whether it is mirrored."""
    colour: Tensor | None = None
    """(2 + N, B, P) float32: how the crops are still to be augmented (scfs.views.colour_batched); None: they are."""

    def parts(self, number: int) -> "list[Batch]":
        """Cut the batch into `number` batches of consecutive images."""
        if number == 1:
            return [self]
        B = len(self.rows)

        def cut(crops: Tensor | None) -> list[Tensor | None]:
            if crops is None:
                return [None] * number
            return [part.flatten(0, 1) for part in crops.unflatten(0, (-1, B)).chunk(number, dim=1)]

        def of_images(numbers: Tensor | None) -> list[Any]:
            return [None] * number if numbers is None else list(numbers.chunk(number, dim=1))

        crops, numbers = (self.global_crops, self.local_crops), (self.crop_boxes, self.colour)
        pieces = zip(self.rows.chunk(number), *map(cut, crops), *map(of_images, numbers), strict=True)
        return [Batch(self.step, *piece) for piece in pieces]


class ViewBatches(Dataset[Batch]):
    """All batches of a pre-training, indexed by the global step.

    Each epoch takes one permutation of the images and its first floor(n / B) * B.

    Args:
        images: the image set.
        views: crops and augmentation.
        batch: images per batch, B.
        epochs: passes over the data.
        seed: seed of order and augmentation.
        parts: equal parts that a batch is computed in.
        world: of several processes, this one makes its share of every part; together they make the same batches.
        colour: "device": crops are cut and resized only, and what is left to do to them comes with the batch.

    Raises:
        ScfsError: fewer images than one batch, or fewer in a part than processes; when indexed: an
            image that cannot be read.
    """

    def __init__(
        self,
        images: ImageSet,
        views: Views,
        batch: int,
        epochs: int,
        seed: int,
        parts: int = 1,
        world: World = World(),  # noqa: B008 (it cannot be changed)
        colour: Colour = "cpu",
    ) -> None:
        if len(images) < batch:
            raise ScfsError(
                f"data set '{images.name}', split '{images.split}': {len(images)} images, fewer than a batch of {batch}"
            )
        if batch // parts < world.size:
            raise ScfsError(
                f"batch / accumulate = {batch // parts} images, fewer than the {world.size} processes that share them"
            )
        self.parts, self.world, self.colour = parts, world, colour
        self.images, self.views, self.batch, self.epochs, self.seed = images, views, batch, epochs, seed
        self.steps_per_epoch = len(images) // batch
        self._order: tuple[int, npt.NDArray[np.int64]] | None = None
        self.memory: tuple[Tensor, ...] | None = None
        """Of `shapes()`, where the next batch's crops are written; None: in fresh memory."""

    def __len__(self) -> int:
        return self.epochs * self.steps_per_epoch

    def __getitem__(self, step: int) -> Batch:
        if not 0 <= step < len(self):
            raise IndexError(f"step {step} of {len(self)}")
        views, (epoch, place) = self.views, divmod(step, self.steps_per_epoch)
        rows = self._own(self._permutation(epoch)[place * self.batch : (place + 1) * self.batch])
        sizes = np.stack((self.images.heights[rows], self.images.widths[rows]), -1)
        table = augmentation_table(self.seed, epoch, rows, sizes, views)

        global_crops, local_crops = self.memory or (_allocate(*shape[:3]) for shape in self.shapes())
        crops = [*global_crops.numpy(), *local_crops.numpy()]
        for index, row in enumerate(rows):
            image = read_image(self.images, int(row))
            _make_views(image, table[index], [of_view[index] for of_view in crops], self.colour)
        return Batch(
            step,
            torch.from_numpy(rows.copy()),
            global_crops.flatten(0, 1),
            local_crops.flatten(0, 1) if views.local_number else None,
            torch.from_numpy(np.stack([table[name].T for name in PLACEMENT], axis=-1).astype(np.int32)),
            torch.from_numpy(device_parameters(table.T, views.sigma[1])) if self.colour == "device" else None,
        )

    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Of a batch's global and local crops, (V, B, S, S, 3), B the images of this process's share."""
        views, share = self.views, len(self._own(np.arange(self.batch)))
        return (
            (GLOBAL_NUMBER, share, views.global_size, views.global_size, 3),
            (views.local_number, share, views.local_size, views.local_size, 3),
        )

    def _own(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """This process's share of each part of a batch, (B,) -> (at most ceil(B / W),)."""
        return rows.reshape(self.parts, -1)[:, self.world.shard(len(rows) // self.parts)].reshape(-1)

    def _permutation(self, epoch: int) -> npt.NDArray[np.int64]:
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, permutation(self.seed, epoch, len(self.images))
        return self._order[1]


def _make_views(image: Pixels, rows: npt.NDArray[np.void], outs: list[Pixels], colour: Colour) -> None:
    """Crop and resize straight into the batch; then augment, as the image leaves the processor's cache by that."""
    for row, out in zip(rows, outs, strict=True):
        box = int(row["top"]), int(row["left"]), int(row["height"]), int(row["width"])
        crop_resize(image, box, len(out), out)
    if colour == "cpu":
        for row, out in zip(rows, outs, strict=True):
            augment(out, row)


def _make_view(image: Pixels, row: np.void, out: Pixels) -> None:
    """A single view, coloured here."""
    _make_views(image, np.array([row], row.dtype), [out], "cpu")


def _allocate(views: int, batch: int, size: int) -> Tensor:
    """(V, B, S, S, 3) uint8, in a worker in shared memory, so that sending the batch to the trainer copies nothing."""
    shape = (views, batch, size, size, 3)
    return torch.empty(shape, dtype=torch.uint8) if get_worker_info() is None else shared(shape)


class _InRing:
    """Batches that a worker writes to places of a ring, and sends as the places' numbers."""

    def __init__(self, data: ViewBatches, ring: BufferPool) -> None:
        self.data, self.ring = data, ring

    def __getitem__(self, index: tuple[int, int | None]) -> "Batch | _Placed":
        step, place = index
        self.data.memory = None if place is None else self.ring.places[place]
        batch = self.data[step]
        return batch if place is None else _Placed(self.ring.number, place, batch)


class _Placed:
    """A batch in a ring; on arrival in the process that made the ring it is an ordinary batch again."""

    def __init__(self, ring: int, place: int, batch: Batch) -> None:
        self.ring, self.place, self.batch = ring, place, batch

    def __reduce__(self) -> tuple[Any, ...]:
        # As arrays: a tensor would be sent as a file of shared memory.
        batch = self.batch
        numbers = [None if part is None else part.numpy() for part in (batch.rows, batch.crop_boxes, batch.colour)]
        return _arrive, (self.ring, self.place, batch.step, *numbers)


def _arrive(ring: int, place: int, step: int, *numbers: npt.NDArray[Any] | None) -> Batch:
    global_crops, local_crops = (crops.flatten(0, 1) for crops in arrived(ring, place))
    rows, crop_boxes, colour = (None if part is None else torch.from_numpy(part) for part in numbers)
    assert rows is not None
    return Batch(step, rows, global_crops, local_crops if len(local_crops) else None, crop_boxes, colour)


def batches(dataset: ViewBatches, start_step: int, workers: int, pin_memory: bool | None = None) -> Iterator[Batch]:
    """Yield the batches from `start_step` to the end, in order.

    Args:
        dataset: the batches.
        start_step: first global step.
        workers: processes that make batches; 0 makes them in this one.
        pin_memory: page-locked batches for a GPU; by default where there is one.

    Raises:
        ScfsError: an image cannot be read, or a worker died.
    """
    pin = torch.cuda.is_available() if pin_memory is None else pin_memory
    steps = range(start_step, len(dataset))
    if not workers:
        yield from prefetch(dataset, steps, 0, pin)
        return
    # What workers may have begun, what the trainer works on, what it has just let go of, and what is being pinned.
    ring = BufferPool(dataset.shapes(), min(len(steps), AHEAD * workers + 3))
    yield from prefetch(_InRing(dataset, ring), ring.numbered(steps), workers, pin)
