"""Parsers of official data sets: from archives as they are published to images with labels, or to files for a source.

What archives a set has, and where they come from, is in the catalogue; a parser gets their paths by role.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from scfs.data.archives import Member
from scfs.data.official import aircraft, cars, cifar10, cifar100, coco, cub200, fashion_mnist, imagenet, pets, voc
from scfs.data.official.records import Record


class Labelled(Protocol):
    """Module of a data set of labelled images."""

    def classes(self, archives: Mapping[str, Path]) -> tuple[str, ...]:
        """Names by label."""

    def records(self, archives: Mapping[str, Path]) -> Iterator[Record]:
        """Images of all splits; read each before the next one is taken."""


class Boxes(Protocol):
    """Module of a data set with boxes, which another source reads from files."""

    def extracted(self, archives: Mapping[str, Path]) -> Iterator[tuple[str, Member]]:
        """Files to extract: path below the data set's folder, and member; write each before the next one is taken."""


LABELLED: dict[str, Labelled] = {
    "imagenet": imagenet,
    "imagenet100": imagenet,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "cub200": cub200,
    "cars": cars,
    "aircraft": aircraft,
    "pets": pets,
    "fashion_mnist": fashion_mnist,
}
"""Sets by name in the catalogue. For a subset of ImageNet, `names` of its functions takes the list of classes."""
BOXES: dict[str, Boxes] = {"coco": coco, "voc": voc}
"""Sets by name in the catalogue."""
