"""The result of an evaluation, the registry of the functions that compute one, and the labelled splits they open.

An evaluation has two halves: a class of scfs/config, which declares everything (settings, values, cost, what a
rehearsal makes small), and a function here, in scfs/evaluation, which computes it. They are apart because a Snakefile
and `scfs --help` read the class, and must not wait for torch. A plugin has both in one module, and imports torch inside
of its function:

    @evaluation                              # scfs.config.protocol
    class Sharpness(ViewProtocol): ...

    @evaluates(Sharpness)                    # this module
    def sharpness(protocol: Sharpness, encoder: FrozenEncoder) -> EvaluationResult: ...
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from scfs import paths
from scfs.config.evaluation import KnnProtocol, Probe
from scfs.config.protocol import Protocol, kind_of
from scfs.config.registry import Registry
from scfs.data.manifest import ImageSet
from scfs.data.opening import open_split
from scfs.errors import ScfsError

if TYPE_CHECKING:
    from scfs.evaluation.features import FrozenEncoder


@dataclass(frozen=True)
class EvaluationResult:
    """Result of one protocol on one encoder, before it is written."""

    values: dict[str, float]
    """Numbers that go into tables, by name."""
    splits: tuple[ImageSet, ...]
    """Splits that were used."""
    details: dict[str, Any] = field(default_factory=dict)
    """Further entries of the result."""
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    """Arrays that a figure is drawn from."""


Evaluate = Callable[[Any, "FrozenEncoder"], EvaluationResult]
Added = TypeVar("Added", bound=Evaluate)

EVALUATE: Registry[Evaluate] = Registry("kind")
"""Functions that apply a protocol to an encoder, by the kind of the protocol."""


def evaluates(protocol: type[Protocol]) -> Callable[[Added], Added]:
    """Add a function as that which computes an evaluation (a decorator)."""
    return EVALUATE.add(kind_of(protocol))


def open_labelled(protocol: KnnProtocol | Probe) -> tuple[ImageSet, ImageSet]:
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
