"""The ingest journal: rows of a data set's images on disk, batch by batch, so that a kill loses one batch.

A batch is a number of consecutive images of a split, in the order of the archives. Its rows are written when all of its
images are in place, and stay: a manifest that is asked for again is put together from them.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scfs.config.identity import canonical
from scfs.data.image_set import Place
from scfs.io.atomic import write_json, write_text, write_with
from scfs.io.parquet import read_parquet

ROWS = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("label", pa.int32()),
        pa.field("sha256", pa.binary(32)),
        pa.field("shard", pa.string(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("odd", pa.string()),
        pa.field("problem", pa.string()),
    ]
)


class JournalRow(NamedTuple):
    """An image, readable or not."""

    path: str
    width: int
    height: int
    label: int | None
    sha256: bytes | None
    """SHA-256 of its bytes; None if it is not readable."""
    place: Place
    odd: str | None
    problem: str | None
    """Why it cannot be decoded."""


class IngestJournal:
    """Journal of a data set, in a folder of its own.

    Args:
        folder: where they are kept.
        identity: of all that they depend on; batches of another one are removed.

    Raises:
        ScfsError: the folder cannot be written; so do the methods that write.
    """

    def __init__(self, folder: Path, identity: object) -> None:
        self.folder = folder
        self._identity, self._whole = folder / "identity.json", folder / "whole.json"
        text = canonical(identity)
        if _text(self._identity) != text:
            for file in folder.glob("*"):
                file.unlink()
            write_text(self._identity, text)

    def rows(self, split: str, number: int) -> pa.Table | None:
        """Load the rows of a batch; None if it is not done."""
        return _read(self._file(split, number))

    def write(self, split: str, number: int, rows: Sequence[JournalRow]) -> None:
        """Note that a batch is done."""
        columns = [list(column) for column in zip(*(_flat(row) for row in rows), strict=True)]
        arrays = [pa.array(column, field.type) for column, field in zip(columns, ROWS, strict=True)]
        table = pa.Table.from_arrays(arrays, schema=ROWS)
        write_with(self._file(split, number), lambda file: pq.write_table(table, file))

    def finish(self, counts: Mapping[str, int], classes: Sequence[str]) -> None:
        """Note that these are all batches of each split, and the classes by label."""
        write_json(self._whole, {"batches": dict(counts), "classes": list(classes)})

    def classes(self) -> tuple[str, ...]:
        """Load the names by label of a finished set."""
        return tuple(json.loads(self._whole.read_text(encoding="utf-8"))["classes"])

    def bytes_done(self) -> int:
        """Add up the bytes of the images in the batches that are done."""
        tables = [table for file in self.folder.glob("*.parquet") if (table := _read(file)) is not None]
        return sum(pc.sum(table["size"]).as_py() or 0 for table in tables)

    def tables(self) -> dict[str, list[pa.Table]] | None:
        """Load the rows of all batches of each split; None if some are missing."""
        text = _text(self._whole)
        if text is None:
            return None
        found = {}
        for split, count in json.loads(text)["batches"].items():
            tables = [self.rows(split, number) for number in range(count)]
            found[split] = [table for table in tables if table is not None]
            if len(found[split]) < count:
                return None
        return found

    def _file(self, split: str, number: int) -> Path:
        return self.folder / f"{split}-{number:05d}.parquet"


def _flat(row: JournalRow) -> tuple[object, ...]:
    return (*row[:5], *row.place, *row[6:])


def _read(path: Path) -> pa.Table | None:
    try:
        with path.open("rb") as file:
            table = read_parquet(file)
    except (OSError, pa.ArrowException):
        return None
    return table if table.schema.equals(ROWS) else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return None
