"""Records of official archives become images in place and rows on disk, batch by batch; see journal.py."""

import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from scfs.data.archives.members import is_safe
from scfs.data.image_set import Place
from scfs.data.official.journal import IngestJournal, batch_name
from scfs.data.official.layouts import ImageLayout, IncomingImage
from scfs.data.official.parsers.records import Record
from scfs.data.sources.image_probe import OFFICIAL_FORMATS, ProbedImage, format_mismatch, probe_image
from scfs.errors import ScfsError
from scfs.io.ordered_map import ordered_map
from scfs.io.progress import track

MOST_IMAGES = 10_000
"""Most images of a batch: tiny ones do not fill its bytes, and a process that is killed loses a batch."""
SAMPLED = 64
"""One image in this many is decoded where a sample is wanted, chosen by its path's hash."""


def ingest(
    records: Iterable[Record],
    layout: ImageLayout,
    batches: IngestJournal,
    most_bytes: int,
    whole: bool,
    total: int | None,
) -> dict[str, int]:
    """Put all images in their places and their rows into the journal; batches that are done are passed over.

    Args:
        records: of the archives, whose order is the same each time.
        layout: where images go.
        batches: where rows go.
        most_bytes: a batch ends with the image that reaches them.
        whole: decode every image, not a sample.
        total: number of images, for the progress.

    Returns:
        Number of batches by split.

    Raises:
        ScfsError: see the records; or they are not those of the batches that are done.
        OSError: something cannot be written.
    """
    batchers: dict[str, _Batcher] = {}

    def items() -> Iterator[IncomingImage]:
        for record in track(records, "images from the archives", "images", total):
            if not is_safe(record.path):
                raise ScfsError(f"split {record.split}: {record.path!r}: not a path within a data set")
            batcher = batchers.setdefault(record.split, _Batcher(record.split, layout, batches, most_bytes))
            item = batcher.take(record)
            if item is not None:
                yield item

    def work(item: IncomingImage) -> ProbedImage:
        found = probe_image(item.content, OFFICIAL_FORMATS, whole or sampled(item.record.path))
        if found.problem is None:
            layout.keep(item)
        return found

    rows: dict[str, list[dict[str, Any]]] = {}

    def finish(split: str, batch: str) -> None:
        layout.close(batch)
        batches.write(batch, rows.pop(split))

    for item, found in ordered_map(items(), work, lambda item: len(item.content)):
        rows.setdefault(item.record.split, []).append(_row(item, found, layout))
        if item.last:
            finish(item.record.split, item.batch)
    for split in list(rows):
        finish(split, batchers[split].batch)
    return {split: batcher.number + 1 for split, batcher in batchers.items()}


def sampled(path: str) -> bool:
    """True if an image belongs to the sample, which is the same each time."""
    return zlib.crc32(path.encode()) % SAMPLED == 0


class _Batcher:
    """Cuts the images of a split into batches, the same each time, and passes over those that are done."""

    def __init__(self, split: str, layout: ImageLayout, batches: IngestJournal, most_bytes: int) -> None:
        self.number = -1
        self._split, self._layout, self._batches, self._most_bytes = split, layout, batches, most_bytes
        self._done: deque[str] = deque()
        self._bytes = self._images = 0
        self._open = False

    @property
    def batch(self) -> str:
        """Name of the batch."""
        return batch_name(self._split, self.number)

    def take(self, record: Record) -> IncomingImage | None:
        """Read the next image; None if it belongs to a batch that is done."""
        if not self._open and not self._done:
            self._begin()
        if not self._open:
            before = self._done.popleft()
            if record.path != before:
                raise ScfsError(
                    f"{self._batches.folder}: {record.path} comes where {before} came before: the archives are others: "
                    "remove the folder to begin anew"
                )
            return None
        content = record.read()
        self._bytes += len(content)
        self._images += 1
        self._open = self._bytes < self._most_bytes and self._images < MOST_IMAGES
        return IncomingImage(record, content, self.batch, last=not self._open)

    def _begin(self) -> None:
        self.number += 1
        self._bytes = self._images = 0
        rows = self._batches.rows(self.batch)
        self._open = rows is None or not self._layout.has(self._split, rows)
        if rows is not None and not self._open:
            self._done.extend(rows["path"].to_pylist())


def _row(item: IncomingImage, found: ProbedImage, layout: ImageLayout) -> dict[str, Any]:
    """Return a row of the journal."""
    readable, record = found.problem is None, item.record
    place = layout.place(item) if readable else Place("", 0, 0)
    odd = filter(None, (format_mismatch(record.path, found.kind), *found.notes))
    return {
        **{"path": record.path, "label": record.label, "width": found.width, "height": found.height},
        **{"sha256": found.sha256 if readable else None, **place._asdict()},
        **{"odd": "; ".join(odd) or None, "problem": found.problem},
    }
