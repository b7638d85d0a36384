"""CIFAR-100 with its 100 fine labels: archive `binary`, cifar-100-binary.tar.gz; see `scfs.data.official.cifar`."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from scfs.data.official import cifar
from scfs.data.official.records import Record

LAYOUT = cifar.Layout(
    names="cifar-100-binary/fine_label_names.txt",
    train=("cifar-100-binary/train.bin",),
    test=("cifar-100-binary/test.bin",),
    label_bytes=2,
)


def classes(archives: Mapping[str, Path]) -> tuple[str, ...]:
    """Names by fine label, apple to worm."""
    return cifar.classes(archives["binary"], LAYOUT)


def records(archives: Mapping[str, Path]) -> Iterator[Record]:
    """Images of the splits `train` and `test`, as PNG files; see `scfs.data.official.cifar.records`."""
    return cifar.records(archives["binary"], LAYOUT)
