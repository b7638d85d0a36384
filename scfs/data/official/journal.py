"""The ingest journal: rows of a data set's images on disk, batch by batch, so that a kill loses one batch.

A batch is a number of consecutive images of a split, in the order of the archives. Its rows are written when all of its
images are in place, and stay: a manifest that is asked for again is put together from them.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scfs.config.identity import canonical
from scfs.data import image_set
from scfs.io.atomic import write_json, write_text, write_with
from scfs.io.parquet import read_parquet

ROWS = pa.schema(
    [
        *(field.with_nullable(field.name in ("label", "sha256")) for field in image_set.ROWS),
        *image_set.PLACES,
        pa.field("odd", pa.string()),
        pa.field("problem", pa.string()),
    ]
)
"""Columns of images that were read, whether they can be decoded or not: those of an image set, where the images lie,
format mismatches, and why one cannot be decoded; such a one has no SHA-256."""


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

    def rows(self, batch: str) -> pa.Table | None:
        """Load the rows of a batch; None if it is not done."""
        return _read(self._file(batch))

    def write(self, batch: str, rows: Sequence[dict[str, Any]]) -> None:
        """Note that a batch is done."""
        table = pa.Table.from_pylist(rows, ROWS)
        write_with(self._file(batch), lambda file: pq.write_table(table, file))

    def finish(self, counts: Mapping[str, int], classes: Sequence[str]) -> None:
        """Note that these are all batches of each split, and the classes by label."""
        write_json(self._whole, {"batches": dict(counts), "classes": list(classes)})

    def bytes_done(self) -> int:
        """Add up the bytes of the images in the batches that are done."""
        tables = [table for file in self.folder.glob("*.parquet") if (table := _read(file)) is not None]
        return sum(pc.sum(table["size"]).as_py() or 0 for table in tables)

    def whole(self) -> tuple[dict[str, pa.Table], tuple[str, ...]] | None:
        """Load the rows of each split, and the classes by label; None if some are missing."""
        text = _text(self._whole)
        if text is None:
            return None
        whole = json.loads(text)
        found = {
            split: [self.rows(batch_name(split, number)) for number in range(count)]
            for split, count in whole["batches"].items()
        }
        if any(None in tables for tables in found.values()):
            return None
        return {split: pa.concat_tables(tables) for split, tables in found.items()}, tuple(whole["classes"])

    def _file(self, batch: str) -> Path:
        return self.folder / f"{batch}.parquet"


def batch_name(split: str, number: int) -> str:
    """Name a batch of a split, counted from 0."""
    return f"{split}-{number:05d}"


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
