"""Training batches as a function of seed and step, whoever makes them, and test images, for Detectron2's models."""

import scfs.detection.compat  # isort: skip  # noqa: F401

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count, islice
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetMapper
from detectron2.data.common import AspectRatioGroupedDataset, DatasetFromList

from scfs.detection.data import Record, read_as_annotated
from scfs.errors import refusing
from scfs.runtime.philox import permutation, philox4x32, seed_key
from scfs.runtime.world import World

AUGMENTATION, HEADS = 0, 1
"""Third counter word of the numbers drawn for an image, and for a step."""


def random_words(seed: int, *counter: int) -> list[int]:
    """Draw four random 32-bit words: a function of the seed and of three numbers below 2**32."""
    return [int(word) for word in philox4x32([*counter, 0], seed_key(seed))]


class BatchOrder:
    """The images of each batch, by its number: Detectron2's order as a function of the seed, started anywhere.

    Images come in shuffled epochs, and those of a batch are all wider than high, or none is.

    Args:
        records: images to train on.
        batch: images per batch, B.
        seed: seed of the shuffling.
    """

    def __init__(self, records: Sequence[Record], batch: int, seed: int) -> None:
        self._sizes = np.array([(record["width"], record["height"]) for record in records])
        self._batch, self._seed = batch, seed
        self._batches: Iterator[list[Record]] = iter(())
        self._next = -1

    def __getitem__(self, step: int) -> list[tuple[int, int]]:
        """Return epoch and row of the B images of a batch, counted from 0."""
        if not 0 <= self._next <= step:
            self._batches, self._next = iter(AspectRatioGroupedDataset(self._images(), self._batch)), 0
        images = next(islice(self._batches, step - self._next, None))
        self._next = step + 1
        return [(image["epoch"], image["row"]) for image in images]

    def _images(self) -> Iterator[Record]:
        for epoch in count():
            rows = permutation(self._seed, epoch, len(self._sizes))
            for row, (width, height) in zip(rows.tolist(), self._sizes[rows].tolist(), strict=True):
                yield {"width": width, "height": height, "epoch": epoch, "row": row}


class TrainingBatches:
    """This process's share of each batch, indexed by the step: a list of Detectron2's model inputs.

    Args:
        records: images to train on.
        cfg: Detectron2's configuration: batch, shorter sides, flip, format of the masks.
        seed: seed of order and augmentation.
        world: which process this is; together they make the batch of one. None: the only one.

    Raises:
        ScfsError: when indexed: an image that cannot be read, or whose size is not the annotations'.
    """

    def __init__(self, records: Sequence[Record], cfg: CfgNode, seed: int, world: World | None = None) -> None:
        self.order = BatchOrder(records, cfg.SOLVER.IMS_PER_BATCH, seed)
        # One buffer of bytes: workers would copy a list of objects by counting references to them.
        self._records = DatasetFromList(list(records), copy=False)
        self._mapper = DatasetMapper(cfg, is_train=True)
        self._seed = seed
        self._own = (world or World()).shard(cfg.SOLVER.IMS_PER_BATCH)

    def __getitem__(self, step: int) -> list[Record]:
        inputs = []
        for epoch, row in self.order[step][self._own]:
            with _numpy_seeded(random_words(self._seed, epoch, row, AUGMENTATION)):
                inputs.append(_mapped(self._mapper, self._records[row]))
        return inputs


class EvaluationImages:
    """Test images, indexed by their place: a list of one of Detectron2's model inputs.

    Args:
        records: the images.
        cfg: Detectron2's configuration.

    Raises:
        ScfsError: when indexed, as with `TrainingBatches`.
    """

    def __init__(self, records: Sequence[Record], cfg: CfgNode) -> None:
        self._records = DatasetFromList(list(records), copy=False)
        self._mapper = DatasetMapper(cfg, is_train=False)

    def __getitem__(self, row: int) -> list[Record]:
        return [_mapped(self._mapper, self._records[row])]


def _mapped(mapper: DatasetMapper, record: Record) -> Record:
    what = f"{record['file_name']}: cannot be used as annotated"
    # SyntaxError: Pillow's for a broken PNG file.
    with refusing(what, OSError, SyntaxError, ValueError), read_as_annotated(record):
        mapped: Record = mapper(record)
    return mapped


@contextmanager
def _numpy_seeded(words: list[int]) -> Iterator[None]:
    """Seed NumPy's global generator, which Detectron2's augmentations draw from, for the block inside."""
    before: Any = np.random.get_state()
    np.random.seed(words)
    try:
        yield
    finally:
        np.random.set_state(before)
