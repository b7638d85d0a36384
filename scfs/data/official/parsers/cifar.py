"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009) in their binary version, as its readme describes it.

Archive `binary`: files of rows of fixed length without any header: label bytes, then 3072 bytes of an image of 32x32
pixels, first all red values, then green, then blue, each row by row. Images become PNG files, which lose nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scfs.data.archives.members import members
from scfs.data.official.parsers.label_files import class_folders, read_label_files
from scfs.data.official.parsers.records import Parsed, Record, of_pixels
from scfs.errors import ScfsError

SIDE = 32
IMAGE_BYTES = 3 * SIDE * SIDE


@dataclass(frozen=True)
class Cifar:
    """One of the two sets: where its archive keeps what, and how to read it."""

    names: str
    """Member with the classes' names, one on each line."""
    train: tuple[str, ...]
    """Members of the split, in order."""
    test: tuple[str, ...]
    label_bytes: int
    """Label bytes of a row; the last one is the label (CIFAR-100 has the superclass before it)."""

    def parse(self, archives: Mapping[str, Path]) -> Parsed:
        """Return the classes, airplane to truck or apple to worm, and images as `<class>/<index in split>.png`.

        Raises:
            ScfsError: the names are missing, or one appears twice; a file of rows is missing or is cut off, or a label
                is not a class's.
        """
        archive = archives["binary"]
        file = read_label_files(archive, [self.names])[self.names]
        names = file.names()
        return names, self._records(archive, class_folders(names, file.source))

    def _records(self, archive: Path, folders: Sequence[str]) -> Iterator[Record]:
        row_bytes = self.label_bytes + IMAGE_BYTES
        firsts = self._first_rows(archive, row_bytes)
        for member in members(archive):
            if member.name in firsts:
                split = "train" if member.name in self.train else "test"
                rows = np.frombuffer(member.read(), np.uint8).reshape(-1, row_bytes)
                images = rows[:, self.label_bytes :].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
                labels, source = rows[:, self.label_bytes - 1], f"{archive}: {member.name}"
                yield from of_pixels(source, split, firsts[member.name], labels, images, folders)

    def _first_rows(self, archive: Path, row_bytes: int) -> dict[str, int]:
        """Return for each member the index of its first row within the split: the archive's order is another one."""
        wanted = {*self.train, *self.test}
        sizes = {member.name: member.size for member in members(archive) if member.name in wanted}
        firsts: dict[str, int] = {}
        for names in (self.train, self.test):
            first = 0
            for name in names:
                if name not in sizes:
                    raise ScfsError(f"{archive}: no file {name} in it: the layout is not the official archive's")
                if sizes[name] % row_bytes or not sizes[name]:
                    raise ScfsError(f"{archive}: {name}: cut off: {sizes[name]} bytes, not in rows of {row_bytes}")
                firsts[name] = first
                first += sizes[name] // row_bytes
        return firsts


CIFAR10 = Cifar(
    names="cifar-10-batches-bin/batches.meta.txt",
    train=tuple(f"cifar-10-batches-bin/data_batch_{number}.bin" for number in range(1, 6)),
    test=("cifar-10-batches-bin/test_batch.bin",),
    label_bytes=1,
)
CIFAR100 = Cifar(
    names="cifar-100-binary/fine_label_names.txt",
    train=("cifar-100-binary/train.bin",),
    test=("cifar-100-binary/test.bin",),
    label_bytes=2,
)
"""With its 100 fine labels."""
