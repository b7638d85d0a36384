"""Statistics of a data set, in numbers and small pictures: the stage `inspect` writes them, the report shows them.

Two files: JSON with the numbers, and beside it the sample images (.npz). For a split S, `S/names` are the classes of
its sample images (none without labels), `S/image_I` is image I and, where the split has boxes, `S/boxes_I` are its
boxes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scfs.errors import ScfsError
from scfs.io.atomic import write_arrays, write_json


@dataclass(frozen=True, eq=False)
class Sample:
    """A sample image, made small."""

    pixels: np.ndarray
    """(h, w, 3) uint8."""
    name: str = ""
    """Its class; empty without labels."""
    boxes: np.ndarray | None = None
    """Corners x0 y0 x1 y1 in pixels of the small image, (N, 4), where the split has boxes."""


class _Record(BaseModel):
    """Base of the numbers, which are written as JSON under the names of their fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Range(_Record):
    """Smallest, middle and greatest of some numbers."""

    least: int
    median: float
    greatest: int


class ClassCounts(_Record):
    """Images or objects of each class."""

    names: tuple[str, ...]
    counts: tuple[int, ...]


class EqualImages(_Record):
    """Images whose file equals an earlier one, byte by byte."""

    number: int
    pairs: tuple[tuple[str, str], ...]
    """Paths of the first few: the earlier image, the later one."""


class SharedImages(EqualImages):
    """Images of the second split that the first one has too."""

    splits: tuple[str, str]


class SplitStats(_Record):
    """A split of a data set."""

    split: str
    images: int
    digest: str
    """SHA-256 over all images and labels."""
    left_out: int
    """Images that could not be decoded."""
    classes: ClassCounts | None
    """Images of each class; None without labels."""
    objects: ClassCounts | None
    """Boxes of each class, without crowds; None without boxes."""
    width: Range
    """Pixels."""
    height: Range
    """Pixels."""
    duplicates: EqualImages
    notes: dict[str, tuple[int, str]] = {}
    """Number and first path of images of one colour, damaged, with an EXIF turn ..., by what was noted."""
    samples: tuple[Sample, ...] = Field(default=(), exclude=True)


class DatasetStats(_Record):
    """A data set."""

    dataset: str
    identity: str
    """Identity of `prepare` with the settings that the data set was prepared by."""
    stage_version: int
    splits: tuple[SplitStats, ...]
    between: tuple[SharedImages, ...]
    """For every two splits, the images that they share."""

    def write(self, path: Path) -> None:
        """Write `path` (ends in .json) and the arrays beside it; equal contents give equal bytes."""
        arrays: dict[str, np.ndarray] = {}
        for stats in self.splits:
            names = [sample.name for sample in stats.samples if stats.classes]
            arrays[f"{stats.split}/names"] = np.array(names, str)
            for number, sample in enumerate(stats.samples):
                arrays[f"{stats.split}/image_{number}"] = sample.pixels
                if sample.boxes is not None:
                    arrays[f"{stats.split}/boxes_{number}"] = sample.boxes
        write_arrays(path.with_suffix(".npz"), arrays)
        write_json(path, self.model_dump(mode="json"))

    @classmethod
    def read(cls, path: Path) -> "DatasetStats":
        """Read what `write` wrote.

        Raises:
            ScfsError: a file is missing, or is not what the stage inspect writes.
        """
        arrays = path.with_suffix(".npz")
        for file in (path, arrays):
            if not file.is_file():
                raise ScfsError(f"{file}: missing: the stage inspect of data set {path.stem} writes it")
        try:
            stats = cls.model_validate(json.loads(path.read_text(encoding="utf-8")))
            with np.load(arrays, allow_pickle=False) as pictures:
                splits = [one.model_copy(update={"samples": _samples(pictures, one.split)}) for one in stats.splits]
        except (OSError, EOFError, ValueError, KeyError, IndexError, BadZipFile) as error:
            problem = error.errors()[0] if isinstance(error, ValidationError) else None
            reason = f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" if problem else repr(error)
            raise ScfsError(f"{path} or {arrays.name}: not what the stage inspect writes: {reason}") from None
        return stats.model_copy(update={"splits": tuple(splits)})


def _samples(arrays: Mapping[str, np.ndarray], split: str) -> tuple[Sample, ...]:
    names = arrays[f"{split}/names"].tolist()
    found: list[Sample] = []
    while (image := f"{split}/image_{len(found)}") in arrays:
        boxes = arrays.get(f"{split}/boxes_{len(found)}")
        found.append(Sample(arrays[image], names[len(found)] if names else "", boxes))
    return tuple(found)
