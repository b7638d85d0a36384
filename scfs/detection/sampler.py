"""The images of each batch: Detectron2's order as a function of seed and step, so that it can start anywhere.

Images come in shuffled epochs, go into one of two groups (wider than high, or not), and every time that a group has as
many as a batch, they are one [Detectron2: AspectRatioGroupedDataset]. A group keeps its rest over the end of an epoch.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from scfs.runtime.philox import permutation

Group = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
"""Images of a group in an epoch's order, and their places among all images of that epoch."""
KEPT_EPOCHS = 8


class Occurrence(NamedTuple):
    """One of the times that an image is trained on."""

    epoch: int
    row: int


class BatchOrder:
    """The order of `n` images in batches.

    Args:
        wide: True for the images that are wider than high, (n,) bool.
        batch: images per batch, B.
        seed: seed of the shuffling.
    """

    def __init__(self, wide: npt.NDArray[np.bool_], batch: int, seed: int) -> None:
        self.batch = batch
        self._wide = wide
        self._sizes = (int(wide.sum()), int((~wide).sum()))
        self._seed = seed
        self._epochs: dict[int, list[Group]] = {}

    def __getitem__(self, step: int) -> list[Occurrence]:
        """Return the B images of batch `step`, counted from 0."""
        epoch = self._epoch_of(step)
        group, number = self._completed(epoch)[step - self._before(epoch)]
        places = range(number * self.batch, (number + 1) * self.batch)
        epochs_and_places = [divmod(place, self._sizes[group]) for place in places]
        return [Occurrence(epoch, int(self._groups(epoch)[group][0][place])) for epoch, place in epochs_and_places]

    def _before(self, epoch: int) -> int:
        """Count the batches that are complete when an epoch begins."""
        return sum(epoch * size // self.batch for size in self._sizes)

    def _epoch_of(self, step: int) -> int:
        """Find the epoch in which a batch becomes complete."""
        epoch = step * self.batch // sum(self._sizes)  # not later than it; the groups' rests can make it a later one
        while self._before(epoch + 1) <= step:
            epoch += 1
        return epoch

    def _completed(self, epoch: int) -> list[tuple[int, int]]:
        """List group and number within it of each batch that becomes complete in an epoch, in order."""
        found = []
        for group, size in enumerate(self._sizes):
            _, places = self._groups(epoch)[group]
            for number in range(epoch * size // self.batch, (epoch + 1) * size // self.batch):
                last = (number + 1) * self.batch - 1 - epoch * size
                found.append((int(places[last]), (group, number)))
        return [batch for _, batch in sorted(found)]

    def _groups(self, epoch: int) -> list[Group]:
        if epoch not in self._epochs:
            if len(self._epochs) == KEPT_EPOCHS:
                self._epochs.clear()
            order = permutation(self._seed, epoch, len(self._wide))
            of_groups = [np.flatnonzero(self._wide[order]), np.flatnonzero(~self._wide[order])]
            self._epochs[epoch] = [(order[places], places) for places in of_groups]
        return self._epochs[epoch]
