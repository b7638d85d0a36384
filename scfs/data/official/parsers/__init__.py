"""Parsers of official data sets: from archives as they are published to images with labels, or to files for a source.

What archives a set has, and where they come from, is in the catalogue; a parser gets their paths by role.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from scfs.data.archives.members import Member
from scfs.data.official.parsers import aircraft, cars, cifar, coco, cub200, fashion_mnist, imagenet, pets, voc
from scfs.data.official.parsers.records import Parsed

LABELLED: dict[str, Callable[..., Parsed]] = {
    "imagenet": imagenet.parse,
    "imagenet100": imagenet.parse,
    "cifar10": cifar.CIFAR10.parse,
    "cifar100": cifar.CIFAR100.parse,
    "cub200": cub200.parse,
    "cars": cars.parse,
    "aircraft": aircraft.parse,
    "pets": pets.parse,
    "fashion_mnist": fashion_mnist.parse,
}
"""Parsers of sets of labelled images, by name in the catalogue; that of ImageNet also takes the names of classes."""
BOXES: dict[str, Callable[[Mapping[str, Path]], Iterator[tuple[str, Member]]]] = {
    "coco": coco.extracted,
    "voc": voc.extracted,
}
"""Functions that yield the files to extract of sets with boxes, which another source reads: path below the data set's
folder, and member; write each before taking the next."""
