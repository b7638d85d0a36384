"""What the stage `inspect` has found in a data set: numbers by split, and small pictures."""

import json
from dataclasses import dataclass
from typing import Any
from zipfile import BadZipFile

import numpy as np

from scfs import paths
from scfs.config.identity import prepare_identity
from scfs.config.study import Study
from scfs.errors import ScfsError


@dataclass(frozen=True)
class Counts:
    """How many there are of each class."""

    what: str
    """"images" or "objects"."""
    names: tuple[str, ...]
    numbers: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Small:
    """An image of the contact sheet."""

    pixels: np.ndarray
    """(h, w, 3) uint8."""
    name: str
    """Its class; empty without labels."""
    boxes: np.ndarray | None
    """Corners x0 y0 x1 y1 in its pixels (N, 4), where the split has boxes."""


@dataclass(frozen=True, eq=False)
class Split:
    """A split of a data set."""

    name: str
    numbers: dict[str, Any]
    """As the stage wrote them, see `scfs.data.inspection`."""
    images: tuple[Small, ...]

    @property
    def counts(self) -> Counts | None:
        """Images of each class; objects where images have none; None without both."""
        for key, what in (("classes", "images"), ("objects", "objects")):
            found = self.numbers[key]
            if found is not None:
                return Counts(what, tuple(found["names"]), tuple(found["counts"]))
        return None


@dataclass(frozen=True, eq=False)
class Inspected:
    """A data set."""

    name: str
    splits: tuple[Split, ...]
    between: tuple[dict[str, Any], ...]
    """Images that two splits share, as the stage wrote them."""


def read_inspected(study: Study, dataset: str) -> Inspected:
    """Read the inspection of a data set of the study.

    Raises:
        ScfsError: a file is missing or damaged, or is of other settings of the data set than the study's.
    """
    path = paths.inspection(dataset)
    arrays = path.with_suffix(".npz")
    for file in (path, arrays):
        if not file.is_file():
            raise ScfsError(f"{file}: missing: the stage inspect of data set {dataset} writes it")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["identity"] != prepare_identity(study, dataset):
            raise ScfsError(
                f"{path}: of other settings than the study's data.{dataset}: "
                "run the stages prepare and inspect of this data set again"
            )
        with np.load(arrays, allow_pickle=False) as pictures:
            splits = tuple(Split(one["split"], one, _images(pictures, one["split"])) for one in found["splits"])
        return Inspected(dataset, splits, tuple(found["between"]))
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise ScfsError(f"{path} or {arrays.name}: not what the stage inspect writes: {error!r}") from None


def _images(arrays: Any, split: str) -> tuple[Small, ...]:
    names = arrays[f"{split}/names"].tolist()
    found: list[Small] = []
    while f"{split}/image_{len(found)}" in arrays:
        number = len(found)
        boxes = arrays.get(f"{split}/boxes_{number}")
        found.append(Small(arrays[f"{split}/image_{number}"], names[number] if names else "", boxes))
    return tuple(found)
