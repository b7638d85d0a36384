"""The manifest of a data set: one Parquet table of its images, the declared output of `prepare`.

Columns: path, width, height, label (null: none), split, sha256. The schema's metadata (key `scfs`, JSON) hold the data
set's name and source, its configuration, and per split the root folder, the classes, how many images were left out, and
the file of its boxes with its SHA-256 where there is one (sources coco and voc).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scfs.atomic import write_with
from scfs.config.base import parse
from scfs.config.data import DataSet, GarmentScenes
from scfs.config.identity import canonical
from scfs.data.images import ImageRows, ImageSet
from scfs.data.scene_images import ensure_scenes
from scfs.errors import ScfsError

__all__ = ["COLUMNS", "BoxFile", "ImageSet", "ListedSplit", "describe", "open_split", "write_manifest"]

COLUMNS = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("label", pa.int32()),
        pa.field("split", pa.string(), nullable=False),
        pa.field("sha256", pa.binary(32), nullable=False),
    ]
)


class BoxFile(NamedTuple):
    """COCO JSON with the boxes of a split."""

    file: str
    """Absolute, or relative to the manifest's folder."""
    sha256: str
    """Hash of its content, in hexadecimal digits."""


@dataclass(frozen=True, eq=False)
class ListedSplit:
    """One split as it is written."""

    split: str
    root: str
    """Folder of the images: absolute, or relative to the manifest's."""
    rows: ImageRows
    classes: tuple[str, ...] = ()
    unreadable: int = 0
    """Images left out because they could not be decoded."""
    boxes: BoxFile | None = None
    """None: there are none, or they belong to the embedded images."""


def write_manifest(path: Path, name: str, config: DataSet, splits: Sequence[ListedSplit]) -> None:
    """Write the table of all splits, in their order; the same input gives the same bytes.

    Raises:
        ScfsError: the file cannot be written.
    """
    about = {
        "name": name,
        "source": config.source,
        "config": config,
        "splits": {item.split: _entry(item) for item in splits},
    }
    schema = COLUMNS.with_metadata({"scfs": canonical(about)})
    table = pa.Table.from_batches([_batch(item, schema) for item in splits], schema)
    write_with(path, lambda file: pq.write_table(table, file, compression="zstd"))


def _entry(item: ListedSplit) -> dict[str, Any]:
    boxes = {} if item.boxes is None else {"boxes": item.boxes._asdict()}
    return {"root": item.root, "classes": item.classes, "unreadable": item.unreadable, **boxes}


def _batch(item: ListedSplit, schema: pa.Schema) -> pa.RecordBatch:
    rows, number = item.rows, len(item.rows.paths)
    labels = [None] * number if rows.labels is None else rows.labels
    columns = [rows.paths, rows.widths, rows.heights, labels, [item.split] * number, rows.hashes]
    arrays = [pa.array(column, column_field.type) for column, column_field in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def open_split(manifest: Path, split: str) -> ImageSet:
    """Images of one split; embedded images and annotations that are missing are made again first.

    Raises:
        ScfsError: no manifest there, not a manifest, no such split, or the images are gone and cannot be remade.
    """
    table, about = _read(manifest)
    if split not in about["splits"]:
        raise ScfsError(f"{manifest}: split = {split!r}: not among {sorted(about['splits'])}")
    entry = about["splits"][split]
    root = manifest.parent / entry["root"]
    if about["source"] == "garment-scenes":
        config: GarmentScenes = parse(GarmentScenes, about["config"], str(manifest))
        hashes = dict(zip(table["path"].to_pylist(), table["sha256"].to_pylist(), strict=True))
        ensure_scenes(root, about["name"], config, hashes, manifest)
    if not root.is_dir():
        raise ScfsError(f"{root}: folder of data set {about['name']}, split {split}: not found")
    rows = _rows(table.filter(pc.equal(table["split"], split)))
    return ImageSet.of(about["name"], split, root, entry["classes"], rows)


def describe(manifest: Path) -> dict[str, Any]:
    """What a manifest's metadata say: name, source, config, splits (by name: root, classes, unreadable, perhaps boxes).

    Raises:
        ScfsError: no manifest there, or not a manifest.
    """
    return _read(manifest)[1]


def _read(manifest: Path) -> tuple[pa.Table, dict[str, Any]]:
    """The table and what its metadata say."""
    if not manifest.is_file():
        raise ScfsError(f"{manifest}: not found: run `scfs prepare {manifest.parent.name}` first")
    try:
        with manifest.open("rb") as file:
            table = pq.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise ScfsError(f"{manifest}: not a Parquet file: {error}") from None
    metadata = table.schema.metadata or {}
    if table.schema.names != COLUMNS.names or b"scfs" not in metadata:
        raise ScfsError(f"{manifest}: not a manifest: run `scfs prepare {manifest.parent.name}`")
    about: dict[str, Any] = json.loads(metadata[b"scfs"])
    return table, about


def _rows(table: pa.Table) -> ImageRows:
    column = {name: table[name].to_pylist() for name in ("path", "width", "height", "sha256", "label")}
    labels = None if table["label"].null_count else column["label"]
    return ImageRows(column["path"], column["width"], column["height"], column["sha256"], labels)
