"""Batches of labelled crops: batch t is a function of the seed, t and the images, whoever makes it, in any order."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from scfs.config.finetune import FineTune
from scfs.data.images import ImageSet
from scfs.errors import ScfsError
from scfs.views.crops import crop_and_flip, crops
from scfs.views.philox import permutation
from scfs.views.reading import read_image
from scfs.world import World


class CropBatch(NamedTuple):
    """One crop of each of B images."""

    step: int
    """From 0."""
    pixels: Tensor
    """(B, S, S, 3) uint8."""
    labels: Tensor
    """(B,) int64."""

    def parts(self, number: int) -> "list[CropBatch]":
        """Cut the batch into `number` batches of consecutive images."""
        pieces = zip(self.pixels.chunk(number), self.labels.chunk(number), strict=True)
        return [CropBatch(self.step, *piece) for piece in pieces]


class CropBatches:
    """All batches of a fine-tuning, indexed by the step.

    They are cut from one permutation of the images after the other, so that every image counts, a batch may hold the
    end of one pass and the start of the next, and more passes than one where there are fewer images than it takes.

    Args:
        images: labelled images.
        protocol: batch size, length, crops and seed.
        world: of several processes, this one makes its share of every part; together they make the same batches.

    Raises:
        ScfsError: a part of a batch has fewer images than there are processes; when indexed: an image cannot be read.
    """

    def __init__(self, images: ImageSet, protocol: FineTune, world: World = World()) -> None:  # noqa: B008
        part = protocol.batch // protocol.accumulate
        if part < world.size:
            raise ScfsError(f"batch / accumulate = {part} images, fewer than the {world.size} processes that share it")
        self.images, self.protocol, self.world = images, protocol, world
        self.labels = torch.from_numpy(images.require_labels())
        self._order: tuple[int, npt.NDArray[np.int64]] | None = None

    def __len__(self) -> int:
        passes = (self.protocol.epochs or 0) * len(self.images)
        return self.protocol.steps or -(-passes // self.protocol.batch)

    @property
    def steps_per_epoch(self) -> float:
        """Batches in one pass over the images."""
        return len(self.images) / self.protocol.batch

    def __getitem__(self, step: int) -> CropBatch:
        if not 0 <= step < len(self):
            raise IndexError(f"step {step} of {len(self)}")
        batch = self.protocol.batch
        places = self._own(np.arange(step * batch, (step + 1) * batch))
        epochs, rows = places // len(self.images), np.empty_like(places)
        made = np.empty((len(places), self.protocol.crop, self.protocol.crop, 3), np.uint8)
        for epoch in np.unique(epochs).tolist():
            (of_epoch,) = np.nonzero(epochs == epoch)
            rows[of_epoch] = self._permutation(epoch)[places[of_epoch] % len(self.images)]
            self._crop(epoch, rows[of_epoch], of_epoch, made)
        return CropBatch(step, torch.from_numpy(made), self.labels[rows])

    def _own(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """This process's share of each part of a batch, (B,) -> (at most ceil(B / W),)."""
        parts = places.reshape(self.protocol.accumulate, -1)
        return parts[:, self.world.part(parts.shape[1])].reshape(-1)

    def _permutation(self, epoch: int) -> npt.NDArray[np.int64]:
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, permutation(self.protocol.seed, epoch, len(self.images))
        return self._order[1]

    def _crop(
        self, epoch: int, rows: npt.NDArray[np.int64], places: npt.NDArray[np.int64], out: npt.NDArray[np.uint8]
    ) -> None:
        sizes = np.stack([self.images.heights[rows], self.images.widths[rows]], axis=1)
        drawn = crops(self.protocol.seed, epoch, rows, sizes, self.protocol.scale)
        for row, place, of_image in zip(rows.tolist(), places.tolist(), drawn, strict=True):
            out[place] = crop_and_flip(read_image(self.images, row), of_image, self.protocol.crop)
