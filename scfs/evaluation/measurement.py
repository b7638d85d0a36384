"""What every evaluation starts from and gives back."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scfs import paths
from scfs.config.evaluation import Probe, Vote
from scfs.data.manifest import ImageSet, open_split
from scfs.errors import ScfsError


@dataclass(frozen=True)
class Measurement:
    """Result of one protocol on one encoder, before it is written."""

    values: dict[str, float]
    """Numbers that go into tables, by name."""
    splits: tuple[ImageSet, ...]
    """Splits that were used."""
    details: dict[str, Any] = field(default_factory=dict)
    """What else the result records."""
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    """Arrays that a figure is drawn from."""


def open_labelled(protocol: Vote | Probe) -> tuple[ImageSet, ImageSet]:
    """Open the protocol's train and test splits.

    Raises:
        ScfsError: a split has no labels, or the two do not have the same classes.
    """
    manifest = paths.manifest(protocol.dataset)
    train, test = open_split(manifest, protocol.train), open_split(manifest, protocol.test)
    for split in (train, test):
        split.require_labels()
    if train.classes != test.classes:
        different = sorted(set(train.classes) ^ set(test.classes))
        raise ScfsError(
            f"{manifest}: splits {train.split!r} and {test.split!r} must have the same classes: "
            f"only one of them has {different[:5]}"
        )
    return train, test
