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

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from scfs import paths
from scfs.config.identity import STAGE_VERSIONS
from scfs.config.protocol import EVALUATIONS, Protocol
from scfs.config.registry import Registry
from scfs.data.manifest import ImageSet
from scfs.data.opening import open_split
from scfs.errors import ScfsError
from scfs.io.results import sha256_of

if TYPE_CHECKING:
    from scfs.evaluation.features import FrozenEncoder
    from scfs.weights.store import Weights


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

    def __post_init__(self) -> None:
        """Hold the numbers to be finite, before anything is written.

        Raises:
            ScfsError: one is not.
        """
        for name, value in self.values.items():
            if not math.isfinite(value):
                raise ScfsError(f"evaluation: {name} = {value}: not a finite number")


Evaluate = Callable[[Any, "FrozenEncoder"], EvaluationResult]
Added = TypeVar("Added", bound=Evaluate)

EVALUATE: Registry[Evaluate] = Registry("kind")
"""Functions that apply a protocol to an encoder, by the kind of the protocol."""


def evaluates(protocol: type[Protocol]) -> Callable[[Added], Added]:
    """Add a function as that which computes an evaluation (a decorator)."""
    return EVALUATE.add(EVALUATIONS.kind_of(protocol))


def result_record(
    protocol: Protocol, run: str, splits: Sequence[ImageSet], weights: Path, source: "Weights", threads: int
) -> dict[str, Any]:
    """Make the part that the results of all evaluations share: what was measured, on which images and weights."""
    of_splits = {images.split: {"images": len(images), "digest": images.digest} for images in splits}
    return {
        "run": run,
        "evaluation": protocol.kind,
        "protocol": protocol.model_dump(mode="json"),
        "dataset": {"name": protocol.dataset, "splits": of_splits},
        "weights": {"sha256": sha256_of(weights), "identity": source.identity},
        "settings": source.settings,
        "stage_version": STAGE_VERSIONS[protocol.stage],
        "torch_threads": threads,
    }


def open_labelled(protocol: Protocol, manifest: Path | None = None) -> tuple[ImageSet, ...]:
    """Open the protocol's splits, of another manifest than the data set's if one is given.

    Raises:
        ScfsError: a split has no labels, or two do not have the same classes.
    """
    manifest = manifest or paths.manifest(protocol.dataset)
    splits = tuple(open_split(manifest, name) for name in protocol.splits)
    for split in splits:
        split.require_labels()
        if split.classes != splits[0].classes:
            different = sorted(set(splits[0].classes) ^ set(split.classes))
            raise ScfsError(
                f"{manifest}: splits {splits[0].split!r} and {split.split!r} must have the same classes: "
                f"only one of them has {different[:5]}"
            )
    return splits
