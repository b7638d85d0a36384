"""JPEG files to batches of ten views: ours against the authors' loader (reference_loader.py), on the same files.

Without workers it is the work on an image in one process; with one it is all that a worker and the process it serves
spend, from the start of the worker to the last batch. Files are in memory on both sides: disks differ more than
loaders do.
"""

from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import DataLoader

from benchmarks.measure import Call, Pair
from benchmarks.photographs import CAMERA, CAMERA_BYTES, IMAGENET, IMAGENET_BYTES, jpegs
from benchmarks.reference_loader import ReferenceImages
from scfs.config.pretrain import Views
from scfs.views.colour_batched import Colour
from scfs.views.loader import ViewBatches, batches

Size = Literal["imagenet", "camera"]
SIZES = {"imagenet": (IMAGENET, IMAGENET_BYTES), "camera": (CAMERA, CAMERA_BYTES)}
BATCH = 16


@cache
def files(size: Size) -> tuple[bytes, ...]:
    """The photographs as JPEG files of one size."""
    return tuple(jpegs(*SIZES[size]))


class Photographs:
    """An image set as far as the loader uses it: the files in turn, `number` in all."""

    name, split, root = "photographs", "pretrain", Path("photographs")

    def __init__(self, size: Size, number: int) -> None:
        (width, height), _ = SIZES[size]
        self.files = files(size)
        self.heights, self.widths = np.full(number, height, np.int32), np.full(number, width, np.int32)

    def __len__(self) -> int:
        return len(self.heights)

    def read(self, row: int) -> bytes:
        """The bytes of a file."""
        return self.files[row % len(self.files)]

    def where(self, row: int) -> str:
        """Name for messages."""
        return f"photograph {row % len(self.files)}"


def ours(size: Size, number: int, workers: int, colour: Colour = "cpu") -> Call:
    """All batches of an epoch of `number` images, other views in each call; what is left to the device is not done."""
    epoch = [0]

    def call() -> None:
        images: Any = Photographs(size, number)
        data = ViewBatches(images, Views(), min(BATCH, number), 1, epoch[0], colour=colour)
        epoch[0] += 1
        for batch in batches(data, 0, workers):
            assert batch.global_crops.shape[1] == 224

    return call


def reference(size: Size, number: int, workers: int) -> Call:
    """The same by the authors' loader."""
    data = ReferenceImages(list(files(size)), number)

    def call() -> None:
        for views in DataLoader(data, min(BATCH, number), num_workers=workers, worker_init_fn=_one_thread):
            assert views[0].shape[2] == 224

    return call


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)


def pair(short: bool, device: torch.device, size: Size, workers: int, colour: Colour = "cpu") -> Pair:
    """Views in this process (`workers` 0), or by a loader with workers."""
    number = BATCH if short else 2 * len(files(size)) if not workers else 16 * BATCH
    return Pair(ours(size, number, workers, colour), reference(size, number, workers), number)
