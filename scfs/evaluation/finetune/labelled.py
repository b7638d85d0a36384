"""The images that a fine-tuning trains on, chooses on and tests on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scfs.config.finetune import FineTune, LabelledFiles, LabelledShare
from scfs.data.image_set import ImageSet
from scfs.data.sources.published_lists import read_published
from scfs.errors import ScfsError
from scfs.evaluation.result import open_labelled
from scfs.evaluation.subsets import LABELLED, require_every_class, stratified_subset, validation_split


@dataclass(frozen=True, eq=False)
class LabelledData:
    """The images of a protocol; every class has one in each of these sets."""

    splits: tuple[ImageSet, ...]
    """Splits as they are in the manifest: train, that of the validation if it is one, test."""
    whole: ImageSet
    """Images of the final training: all that have labels, those of the validation among them."""
    fit: ImageSet
    """Images that the trainings of a grid use."""
    validation: ImageSet | None
    """Images that they are compared on; None if there is no grid, and no split is named."""
    test: ImageSet


def labelled_data(protocol: FineTune, manifest: Path) -> LabelledData:
    """Open the splits and choose the images.

    Raises:
        ScfsError: a split has no labels, other classes, or a class without images; the list of labelled images is not
            there, another one, or does not fit; a class has too few images.
    """
    splits = open_labelled(protocol, manifest)
    train, test = splits[0], splits[-1]
    require_every_class(test)
    labelled = _labelled(train, protocol.labels)
    if isinstance(protocol.validation, str):
        validation = splits[1]
        require_every_class(validation)
        return LabelledData(splits, labelled.joined(validation), labelled, validation, test)
    if not protocol.parts:
        return LabelledData(splits, labelled, labelled, None, test)
    chosen = validation_split(labelled, protocol.validation, protocol.seed)
    fit, validation = labelled.subset(np.flatnonzero(~chosen)), labelled.subset(np.flatnonzero(chosen))
    return LabelledData(splits, labelled, fit, validation, test)


def _labelled(train: ImageSet, labels: LabelledFiles | LabelledShare | None) -> ImageSet:
    """Take the images of the train split whose labels may be used."""
    if isinstance(labels, LabelledShare):
        return train.subset(np.flatnonzero(stratified_subset(train, labels.share, labels.seed, LABELLED)))
    if labels is not None:
        listed = train.subset(listed_rows(train, labels))
        require_every_class(listed, labels.file)
        return listed
    require_every_class(train)
    return train


def listed_rows(images: ImageSet, labels: LabelledFiles) -> npt.NDArray[np.int64]:
    """Find the rows of the images whose names, without their folders, stand in the list; (m,), ascending.

    Raises:
        ScfsError: the list is not there or another one, names an image that is not there, or a name that two have.
    """
    lines = (line.strip() for line in read_published(labels, "list of labelled images").splitlines())
    names = dict.fromkeys(line for line in lines if line)
    found: dict[str, int] = {}
    for row, path in enumerate(images.paths):
        name = path.rpartition("/")[2]
        if name in found and name in names:
            raise ScfsError(f"{labels.file}: {name}: is the name of both {images.paths[found[name]]} and {path}")
        found[name] = row
    missing = [name for name in names if name not in found]
    if missing or not names:
        raise ScfsError(
            f"{labels.file}: {len(missing)} of its {len(names)} images are not in data set {images.name}, split"
            f" {images.split}: {', '.join(missing[:3])}"
        )
    return np.sort(np.array([found[name] for name in names], np.int64))
