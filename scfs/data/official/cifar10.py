"""CIFAR-10: archive `binary`, cifar-10-binary.tar.gz; see `scfs.data.official.cifar`."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from scfs.data.official import cifar
from scfs.data.official.records import Record

LAYOUT = cifar.Layout(
    names="cifar-10-batches-bin/batches.meta.txt",
    train=tuple(f"cifar-10-batches-bin/data_batch_{number}.bin" for number in range(1, 6)),
    test=("cifar-10-batches-bin/test_batch.bin",),
    label_bytes=1,
)


def classes(archives: Mapping[str, Path]) -> tuple[str, ...]:
    """Names by label, airplane to truck."""
    return cifar.classes(archives["binary"], LAYOUT)


def records(archives: Mapping[str, Path]) -> Iterator[Record]:
    """Images of the splits `train` and `test`, as PNG files; see `scfs.data.official.cifar.records`."""
    return cifar.records(archives["binary"], LAYOUT)
