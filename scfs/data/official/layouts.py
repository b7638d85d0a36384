"""Layouts of an official data set's images on disk: as files, as tar shards, or in the official archive itself.

All of them go through `<data set>/.part` and appear under their names whole. Files and shards are no stage's declared
output: they are made again from the archives when they are missing (scfs.data.official.restore).
"""

import os
import shutil
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from scfs.config.data import Official
from scfs.data.archives.extraction import has_size
from scfs.data.image_set import ImageSet, Place
from scfs.data.official.parsers.records import Record
from scfs.data.official.shards import ShardWriter
from scfs.errors import ScfsError, writing
from scfs.io.atomic import move_into_place
from scfs.io.files import walk
from scfs.io.locks import file_lock

LOCK = ".prepare.lock"
REPORT = "report.json"
FILES = "files"
"""Folder of what the archives of a set with boxes hold."""
ROWS = ".rows"
"""Folder of what is known of a data set's images."""
ANNOTATIONS = "annotations"
PART = ".part"
IMAGES = "images"
SHARDS = "shards"


class IncomingImage(NamedTuple):
    """An image on its way from an archive into a data set."""

    record: Record
    content: bytes
    batch: str
    """Name of its batch (scfs.data.official.journal), and of its shard where the layout has some."""
    last: bool
    """True if the batch ends with it."""


class ImageLayout(ABC):
    """Way to store images on disk; methods that write raise OSError.

    Args:
        folder: of the data set.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def root(self, split: str) -> str:
        """Name the folder that paths or shards of a split are relative to: absolute, or relative to the manifest's."""

    @abstractmethod
    def place(self, item: IncomingImage) -> Place:
        """Say where an image is, after writing it behind the others of its batch."""

    def keep(self, item: IncomingImage) -> None:  # noqa: B027
        """Write an image that needs nothing of the others, in any thread."""

    def close(self, batch: str) -> None:  # noqa: B027
        """Let the images of a batch outlast a power cut."""

    def has(self, split: str, rows: pa.Table) -> bool:
        """True if the images of a batch that was closed are still there."""
        return True

    @contextmanager
    def parts(self) -> Iterator[None]:
        """Have an empty folder for what is not finished; a process that was killed may have left some."""
        self.discard()
        (self.folder / PART).mkdir(parents=True)
        try:
            yield
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove what is not finished."""
        shutil.rmtree(self.folder / PART, ignore_errors=True)


class FileLayout(ImageLayout):
    """Each image is a file: images/<split>/<path>; one that is there with its content stays."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._there: dict[str, set[str]] = {}
        """Paths by split, once they were listed: of a million files that is not done for each batch."""

    def root(self, split: str) -> str:  # noqa: D102
        return f"{IMAGES}/{split}"

    def keep(self, item: IncomingImage) -> None:  # noqa: D102
        path, content = self.folder / self.root(item.record.split) / item.record.path, item.content
        if has_size(path, len(content)) and path.read_bytes() == content:
            return
        temporary = self.folder / PART / f"{threading.get_ident()}"
        temporary.write_bytes(content)
        move_into_place(temporary, path, durable=False)

    def place(self, item: IncomingImage) -> Place:  # noqa: D102
        if item.record.split in self._there:
            self._there[item.record.split].add(item.record.path)
        return Place("", 0, len(item.content))

    def close(self, batch: str) -> None:  # noqa: D102
        os.sync()  # for one file after the other it takes many times as long

    def has(self, split: str, rows: pa.Table) -> bool:  # noqa: D102
        if split not in self._there:
            self._there[split] = files_below(self.folder / self.root(split))
        readable = rows.filter(pc.is_null(rows["problem"]))
        return self._there[split].issuperset(readable["path"].to_pylist())


class ShardLayout(ImageLayout):
    """A batch is a tar: shards/<split>-<number>.tar."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._open: dict[str, ShardWriter] = {}

    def root(self, split: str) -> str:  # noqa: D102
        return SHARDS

    def place(self, item: IncomingImage) -> Place:  # noqa: D102
        if item.batch not in self._open:
            shard = f"{item.batch}.tar"
            self._open[item.batch] = ShardWriter(self.folder / SHARDS / shard, self.folder / PART / shard)
        return self._open[item.batch].add(item.record.path, item.content)

    def close(self, batch: str) -> None:  # noqa: D102
        self._open.pop(batch).close()

    def has(self, split: str, rows: pa.Table) -> bool:  # noqa: D102
        return not missing_shards(self.folder / SHARDS, rows)

    def discard(self) -> None:  # noqa: D102
        for writer in self._open.values():
            writer.discard()
        super().discard()


class ArchiveLayout(ImageLayout):
    """Images stay where they lie in the archives."""

    def __init__(self, folder: Path, archives: Path) -> None:
        super().__init__(folder)
        self.archives = archives

    def root(self, split: str) -> str:  # noqa: D102
        place = self.archives if self.archives.is_absolute() else Path(os.path.relpath(self.archives, self.folder))
        return place.as_posix()

    def place(self, item: IncomingImage) -> Place:  # noqa: D102
        member, path = item.record.source, item.record.path
        if isinstance(member, bytes) or member.offset is None:
            raise ScfsError(f"layout = 'archive': {path} does not lie uncompressed in an archive: folder or shards")
        return Place(member.archive.relative_to(self.archives).as_posix(), member.offset, member.size)


def layout_of(config: Official, folder: Path) -> ImageLayout:
    """Return how images lie in a prepared data set's folder."""
    if config.layout == "archive":
        return ArchiveLayout(folder, Path(config.archives))
    return ShardLayout(folder) if config.layout == "shards" else FileLayout(folder)


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Lock a data set's folder for this process, and remove what killed processes left.

    Raises:
        ScfsError: it cannot be written.
    """
    with writing(folder), file_lock(folder / LOCK):
        for place in (folder, folder / ROWS, folder / ANNOTATIONS):
            for temporary in place.glob(".*.tmp"):
                temporary.unlink()
        yield


def files_below(folder: Path) -> set[str]:
    """List the relative paths of all files in a folder, with forward slashes; none if it is not there."""
    found: set[str] = set()
    start = len(f"{folder}/")
    for place, _, names in walk(folder):  # asks for no file's kind: there may be a million
        found.update(f"{place}/{name}"[start:] for name in names)
    return found


def missing_of(images: ImageSet) -> set[str]:
    """List files or shards of a split that are not there; a shard also if it ends before its images do."""
    if images.placed:
        return missing_shards(images.root, images.table)
    return set(images.paths) - files_below(images.root)


def missing_shards(root: Path, rows: pa.Table) -> set[str]:
    """List shards (or archives) that are missing or end before the images of these rows do."""
    ends = pa.table({"shard": rows["shard"], "end": pc.add(rows["offset"], rows["size"])})
    reach = ends.group_by("shard", use_threads=False).aggregate([("end", "max")])
    wanted = zip(reach["shard"].to_pylist(), reach["end_max"].to_pylist())
    return {shard for shard, end in wanted if shard and _size_of(root / shard) < end}


def _size_of(path: Path) -> int:
    """Return the bytes of a file; -1 if it is not there."""
    try:
        return path.stat().st_size
    except OSError:
        return -1
