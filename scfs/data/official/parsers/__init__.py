"""Parsers of official data sets: from archives as they are published to images with labels, or to files for a source.

What archives a set has, and where they come from, is in the catalogue; a parser gets their paths by role.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from scfs.config.data import Official
from scfs.data.archives.members import Member
from scfs.data.official.parsers import (
    aircraft,
    cars,
    cifar,
    coco,
    cub200,
    fashion_mnist,
    imagenet,
    pets,
    voc,
)
from scfs.data.official.parsers.records import Record


class Labelled(Protocol):
    """Module of a data set of labelled images."""

    def classes(self, archives: Mapping[str, Path]) -> tuple[str, ...]:
        """List the names by label."""

    def records(self, archives: Mapping[str, Path]) -> Iterator[Record]:
        """Yield the images of all splits; read each before the next one is taken."""


class Boxes(Protocol):
    """Module of a data set with boxes, which another source reads from files."""

    def extracted(self, archives: Mapping[str, Path]) -> Iterator[tuple[str, Member]]:
        """Yield files to extract, as path below the data set's folder and member; write each before taking the next."""


LABELLED: dict[str, Labelled] = {
    "imagenet": imagenet,
    "imagenet100": imagenet,
    "cifar10": cifar.CIFAR10,
    "cifar100": cifar.CIFAR100,
    "cub200": cub200,
    "cars": cars,
    "aircraft": aircraft,
    "pets": pets,
    "fashion_mnist": fashion_mnist,
}
"""Sets by name in the catalogue. For a subset of ImageNet, `names` of its functions takes the list of classes."""
BOXES: dict[str, Boxes] = {"coco": coco, "voc": voc}
"""Sets by name in the catalogue."""


def archived(
    config: Official, archives: Mapping[str, Path], names: tuple[str, ...] | None = None
) -> tuple[tuple[str, ...], Iterator[Record]]:
    """Return the classes and the records of an entry's archives.

    Args:
        config: names the entry.
        archives: by role.
        names: of ImageNet, the classes to take; None: all of the entry.

    Raises:
        ScfsError: see scfs.data.official.
    """
    if config.is_imagenet:
        if "class_list" in archives:
            names = tuple(archives["class_list"].read_text(encoding="utf-8").split())
        return imagenet.classes(archives, names), imagenet.records(archives, names)
    parser = LABELLED[config.entry]
    return parser.classes(archives), parser.records(archives)
