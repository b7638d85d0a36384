"""Records of official archives become images in place and rows on disk, batch by batch; see journal.py."""

import zlib
from collections import deque
from collections.abc import Iterable, Iterator

from scfs.data.archives.members import is_safe
from scfs.data.image_set import Place
from scfs.data.official.journal import IngestJournal, JournalRow
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
            _check_path(record)
            batcher = batchers.setdefault(record.split, _Batcher(record.split, layout, batches, most_bytes))
            if not batcher.passes_over(record.path):
                content = record.content if record.member is None else record.member.read()
                assert content is not None
                yield batcher.item(record, content)

    def work(item: IncomingImage) -> ProbedImage:
        found = probe_image(item.content, OFFICIAL_FORMATS, whole or sampled(item.path))
        if found.problem is None:
            layout.keep(item)
        return found

    rows: dict[str, list[JournalRow]] = {}
    for item, found in ordered_map(items(), work, lambda item: len(item.content)):
        rows.setdefault(item.split, []).append(_row(item, found, layout))
        if item.last:
            _finish(item.split, item.batch, rows, layout, batches)
    for split in list(rows):
        _finish(split, batchers[split].batch, rows, layout, batches)
    return {split: batcher.batch + 1 for split, batcher in batchers.items()}


def sampled(path: str) -> bool:
    """True if an image belongs to the sample, which is the same each time."""
    return zlib.crc32(path.encode()) % SAMPLED == 0


class _Batcher:
    """Cuts the images of a split into batches, the same each time, and passes over those that are done."""

    def __init__(self, split: str, layout: ImageLayout, batches: IngestJournal, most_bytes: int) -> None:
        self.split, self.batch = split, -1
        self._layout, self._batches, self._most_bytes = layout, batches, most_bytes
        self._done: deque[str] = deque()
        self._bytes = self._images = 0
        self._open = False

    def passes_over(self, path: str) -> bool:
        """True if the next image belongs to a batch that is done."""
        if not self._open and not self._done:
            self._begin()
        if self._open:
            return False
        before = self._done.popleft()
        if path != before:
            raise ScfsError(
                f"{self._batches.folder}: {path} comes where {before} came before: the archives are others: "
                "remove the folder to begin anew"
            )
        return True

    def item(self, record: Record, content: bytes) -> IncomingImage:
        """Return the next image, which is not passed over."""
        self._bytes += len(content)
        self._images += 1
        last = self._bytes >= self._most_bytes or self._images >= MOST_IMAGES
        self._open = not last
        member = record.member
        lies = None
        if member is not None and member.offset is not None:
            lies = Place(f"{member.archive}", member.offset, member.size)
        return IncomingImage(self.split, self.batch, last, record.path, record.label, content, lies)

    def _begin(self) -> None:
        self.batch += 1
        self._bytes = self._images = 0
        rows = self._batches.rows(self.split, self.batch)
        self._open = rows is None or not self._layout.has(self.split, rows)
        if rows is not None and not self._open:
            self._done.extend(rows["path"].to_pylist())


def _check_path(record: Record) -> None:
    if not is_safe(record.path):
        raise ScfsError(f"split {record.split}: {record.path!r}: not a path within a data set")


def _row(item: IncomingImage, found: ProbedImage, layout: ImageLayout) -> JournalRow:
    if found.problem is not None:
        return JournalRow(item.path, 0, 0, item.label, None, Place("", 0, 0), None, found.problem)
    odd = format_mismatch(item.path, found.kind)
    return JournalRow(item.path, found.width, found.height, item.label, found.sha256, layout.place(item), odd, None)


def _finish(
    split: str, batch: int, rows: dict[str, list[JournalRow]], layout: ImageLayout, batches: IngestJournal
) -> None:
    layout.close(split, batch)
    batches.write(split, batch, rows.pop(split))
