"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009) in their binary version, as its readme describes it.

Archive `binary`: files of rows of fixed length without any header: label bytes, then 3072 bytes of an image of 32x32
pixels, first all red values, then green, then blue, each row by row. Images become PNG files, which lose nothing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scfs.data.archives.members import members
from scfs.data.official.parsers.label_files import class_folders, read_label_files
from scfs.data.official.parsers.records import Record
from scfs.data.png import encode_rgb
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

    def classes(self, archives: Mapping[str, Path]) -> tuple[str, ...]:
        """List the names by label in the official order, airplane to truck or apple to worm.

        Raises:
            ScfsError: the names are missing, or one appears twice.
        """
        file = read_label_files(archives["binary"], [self.names])[self.names]
        names = tuple(name for _, (name,) in file.rows(1))
        class_folders(names, file.source)
        return names

    def records(self, archives: Mapping[str, Path]) -> Iterator[Record]:
        """Yield images of the splits `train` and `test`, in the archive's order, as `<class>/<index in split>.png`.

        Raises:
            ScfsError: as `classes`; a file of rows is missing or is cut off, or a label is not a class's.
        """
        archive = archives["binary"]
        folders = class_folders(self.classes(archives), f"{archive}: {self.names}")
        row_bytes = self.label_bytes + IMAGE_BYTES
        firsts = _first_rows(archive, self, row_bytes)
        for member in members(archive):
            if member.name not in firsts:
                continue
            split = "train" if member.name in self.train else "test"
            rows = np.frombuffer(member.read(), np.uint8).reshape(-1, row_bytes)
            labels = rows[:, self.label_bytes - 1].tolist()
            images = rows[:, self.label_bytes :].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
            for number, (label, pixels) in enumerate(zip(labels, images)):
                if label >= len(folders):
                    raise ScfsError(f"{archive}: {member.name}: row {number}: label {label}: {len(folders)} classes")
                path = f"{folders[label]}/{firsts[member.name] + number:05d}.png"
                yield Record(split, path, label, None, encode_rgb(pixels))


def _first_rows(archive: Path, layout: Cifar, row_bytes: int) -> dict[str, int]:
    """Return for each member the index of its first row within the split: the archive's order is another one."""
    wanted = {*layout.train, *layout.test}
    sizes = {member.name: member.size for member in members(archive) if member.name in wanted}
    firsts: dict[str, int] = {}
    for names in (layout.train, layout.test):
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
