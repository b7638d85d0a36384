"""What every evaluation starts from and gives back."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scfs import paths
from scfs.config.evaluation import Probe, Vote
from scfs.data.manifest import ImageSet
from scfs.data.opening import open_split
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
    """Open the protocol's train and test splits; see `open_with_labels`."""
    train, test = open_with_labels(paths.manifest(protocol.dataset), protocol.train, protocol.test)
    return train, test


def open_with_labels(manifest: Path, *names: str) -> tuple[ImageSet, ...]:
    """Open splits of a data set.

    Raises:
        ScfsError: a split has no labels, or two do not have the same classes.
    """
    splits = tuple(open_split(manifest, name) for name in names)
    for split in splits:
        split.require_labels()
        if split.classes != splits[0].classes:
            different = sorted(set(splits[0].classes) ^ set(split.classes))
            raise ScfsError(
                f"{manifest}: splits {splits[0].split!r} and {split.split!r} must have the same classes: "
                f"only one of them has {different[:5]}"
            )
    return splits
