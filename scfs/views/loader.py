"""Batches of views for pre-training: batch t is a function of seed, t and images, whoever makes it, in any order."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from scfs.config.pretrain import Views
from scfs.data.images import ImageSet
from scfs.errors import ScfsError
from scfs.views.colour import augment
from scfs.views.images import Pixels, crop_resize
from scfs.views.philox import permutation
from scfs.views.reading import read_ahead, read_image
from scfs.views.table import GLOBAL_NUMBER, augmentation_table
from scfs.world import World

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
    placement: Tensor | None = None
    """(2 + N, B, 5) int32: top, left, height, width of each crop in its image, in pixels; whether it is mirrored."""

    def parts(self, number: int) -> "list[Batch]":
        """Cut the batch into `number` batches of consecutive images."""
        if number == 1:
            return [self]
        B = len(self.rows)

        def cut(crops: Tensor | None) -> list[Tensor | None]:
            if crops is None:
                return [None] * number
            return [part.flatten(0, 1) for part in crops.unflatten(0, (-1, B)).chunk(number, dim=1)]

        placements = [None] * number if self.placement is None else self.placement.chunk(number, dim=1)
        pieces = zip(self.rows.chunk(number), cut(self.global_crops), cut(self.local_crops), placements, strict=True)
        return [Batch(self.step, *piece) for piece in pieces]  # type: ignore[arg-type]


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
    ) -> None:
        if len(images) < batch:
            raise ScfsError(
                f"data set '{images.name}', split '{images.split}': {len(images)} images, fewer than a batch of {batch}"
            )
        if batch // parts < world.size:
            raise ScfsError(
                f"batch / accumulate = {batch // parts} images, fewer than the {world.size} processes that share them"
            )
        self.parts, self.world = parts, world
        self.images, self.views, self.batch, self.epochs, self.seed = images, views, batch, epochs, seed
        self.steps_per_epoch = len(images) // batch
        self._order: tuple[int, npt.NDArray[np.int64]] | None = None

    def __len__(self) -> int:
        return self.epochs * self.steps_per_epoch

    def __getitem__(self, step: int) -> Batch:
        if not 0 <= step < len(self):
            raise IndexError(f"step {step} of {len(self)}")
        views, (epoch, place) = self.views, divmod(step, self.steps_per_epoch)
        rows = self._own(self._permutation(epoch)[place * self.batch : (place + 1) * self.batch])
        sizes = np.stack((self.images.heights[rows], self.images.widths[rows]), -1)
        table = augmentation_table(self.seed, epoch, rows, sizes, views)

        global_crops = _allocate(GLOBAL_NUMBER, len(rows), views.global_size)
        local_crops = _allocate(views.local_number, len(rows), views.local_size)
        crops = [*global_crops.numpy(), *local_crops.numpy()]
        for index, row in enumerate(rows):
            image = read_image(self.images, int(row))
            for of_view, parameters in zip(crops, table[index], strict=True):
                _make_view(image, parameters, of_view[index])
        return Batch(
            step,
            torch.from_numpy(rows.copy()),
            global_crops.flatten(0, 1),
            local_crops.flatten(0, 1) if views.local_number else None,
            torch.from_numpy(np.stack([table[name].T for name in PLACEMENT], axis=-1).astype(np.int32)),
        )

    def _own(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """This process's share of each part of a batch, (B,) -> (at most ceil(B / W),)."""
        return rows.reshape(self.parts, -1)[:, self.world.part(len(rows) // self.parts)].reshape(-1)

    def _permutation(self, epoch: int) -> npt.NDArray[np.int64]:
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, permutation(self.seed, epoch, len(self.images))
        return self._order[1]


def _make_view(image: Pixels, row: np.void, out: Pixels) -> None:
    """Crop, resize and augment straight into the batch."""
    box = int(row["top"]), int(row["left"]), int(row["height"]), int(row["width"])
    crop_resize(image, box, len(out), out)
    augment(out, row)


def _allocate(views: int, batch: int, size: int) -> Tensor:
    """(V, B, S, S, 3) uint8, in a worker in shared memory, so that sending the batch to the trainer copies nothing."""
    shape = (views, batch, size, size, 3)
    if get_worker_info() is None:
        return torch.empty(shape, dtype=torch.uint8)
    shared = torch.UntypedStorage._new_shared(math.prod(shape))
    return torch.empty(0, dtype=torch.uint8).set_(shared).view(shape)


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
    yield from read_ahead(dataset, range(start_step, len(dataset)), workers, pin)
