"""Batches of labelled crops: batch t is a function of the seed, t and the images, whoever makes it, in any order."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from scfs.config.finetune import FineTune
from scfs.data.image_set import ImageSet
from scfs.runtime.philox import permutation
from scfs.runtime.world import World
from scfs.views.crops import crop_and_flip, crops
from scfs.views.workers import read_image

_permutation = lru_cache(maxsize=1)(permutation)


class CropBatch(NamedTuple):
    """Crops of some images, one of each."""

    pixels: Tensor
    """(B, S, S, 3) uint8."""
    labels: Tensor
    """(B,) int64."""


class CropBatches:
    """The batches of a fine-tuning, part by part: part p of P of the batch of step t has the index t * P + p.

    They are cut from one permutation of the images after the other, so that every image counts, a batch may hold the
    end of one pass and the start of the next, and more passes than one where there are fewer images than it takes.

    Args:
        images: labelled images.
        protocol: batch size and its parts, length, crops and seed.
        world: of several processes, this one makes its share of every part; together they make the same batches.

    Raises:
        ScfsError: a part has fewer images than there are processes; when indexed: an image cannot be read.
    """

    def __init__(self, images: ImageSet, protocol: FineTune, world: World = World()) -> None:  # noqa: B008
        self.images, self.protocol, self.world = images, protocol, world
        self.part = protocol.batch // protocol.accumulate
        world.require_share(self.part)
        passes = (protocol.epochs or 0) * len(images)
        self.steps = protocol.steps or -(-passes // protocol.batch)
        self.labels = torch.from_numpy(images.require_labels())

    @property
    def steps_per_epoch(self) -> float:
        """Number of batches in one pass over the images; need not be whole."""
        return len(self.images) / self.protocol.batch

    def __getitem__(self, index: int) -> CropBatch:
        protocol, images, own = self.protocol, self.images, self.world.shard(self.part)
        places = np.arange(index * self.part + own.start, index * self.part + own.stop)
        epochs, rows = places // len(images), np.empty_like(places)
        made = np.empty((len(places), protocol.crop, protocol.crop, 3), np.uint8)
        for epoch in np.unique(epochs).tolist():
            (of_epoch,) = np.nonzero(epochs == epoch)
            chosen = rows[of_epoch] = _permutation(protocol.seed, epoch, len(images))[places[of_epoch] % len(images)]
            sizes = np.stack([images.heights[chosen], images.widths[chosen]], axis=1)
            drawn = crops(protocol.seed, epoch, chosen, sizes, protocol.scale)
            for row, place, of_image in zip(chosen.tolist(), of_epoch.tolist(), drawn, strict=True):
                made[place] = crop_and_flip(read_image(images, row), of_image, protocol.crop)
        return CropBatch(torch.from_numpy(made), self.labels[rows])
