"""The manifest of a data set: one Parquet table of its images, the declared output of `prepare`.

Columns: path, width, height, label (null: none), split, sha256; where images are not files of their own also shard (the
file that they lie in), offset and size in bytes. The schema's metadata (key `scfs`, JSON) hold the data set's name and
source, its configuration, and per split the root folder, the classes, how many images were left out, and the file of
its boxes with its SHA-256 where there is one (sources coco, voc, official); of official archives also the checksums,
and odd images.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scfs.config.data import DataSource
from scfs.config.identity import canonical
from scfs.data.image_set import ImageRows, ImageSet, Places
from scfs.errors import ScfsError
from scfs.io.atomic import write_with
from scfs.io.parquet import read_parquet
from scfs.io.progress import log

MANIFEST = "manifest.parquet"
"""Name of the manifest in a prepared data set's folder."""

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
PLACES = [
    pa.field("shard", pa.string(), nullable=False),
    pa.field("offset", pa.int64(), nullable=False),
    pa.field("size", pa.int64(), nullable=False),
]
"""Further columns of images that lie in larger files."""


class BoxFile(NamedTuple):
    """COCO JSON with the boxes of a split."""

    file: str
    """Absolute, or relative to the manifest's folder."""
    sha256: str
    """Hash of its content, in hexadecimal digits."""


@dataclass(frozen=True, eq=False)
class ManifestSplit:
    """One split as it is written."""

    split: str
    root: str
    """Folder of the images: absolute, or relative to the manifest's."""
    rows: ImageRows
    classes: tuple[str, ...] = ()
    unreadable: int = 0
    """Images left out because they could not be decoded."""
    boxes: BoxFile | None = None
    """File of its boxes; None: there are none, or they are those of the garment scenes."""
    odd: Mapping[str, str] | None = None
    """Format mismatches by path, see `format_mismatch`; None: nobody looked."""


def write_manifest(
    path: Path,
    name: str,
    config: DataSource,
    splits: Sequence[ManifestSplit],
    archives: Mapping[str, str] | None = None,
) -> None:
    """Write the table of all splits, in their order; the same input gives the same bytes.

    A number of images that is not the known one is logged as a warning.

    Args:
        path: where to write it.
        name: data set.
        config: its settings.
        splits: of which all or none have their images in larger files.
        archives: checksums of the official archives, by name.

    Raises:
        ScfsError: the file cannot be written.
    """
    for item in splits:
        found = len(item.rows.paths)
        expected = config.known_images.get(item.split, found)
        if found != expected:
            log(f"warning: {item.root}: {found} images of split {item.split}, {expected} were expected")
    about = {
        "name": name,
        "source": config.source,
        "config": config,
        "splits": {item.split: _entry(item) for item in splits},
        **({} if archives is None else {"archives": archives}),
    }
    columns = COLUMNS if splits[0].rows.places is None else pa.schema([*COLUMNS, *PLACES])
    schema = columns.with_metadata({"scfs": canonical(about)})
    table = pa.Table.from_batches([_batch(item, schema) for item in splits], schema)
    write_with(path, lambda file: pq.write_table(table, file, compression="zstd"))


def _entry(item: ManifestSplit) -> dict[str, Any]:
    boxes = {} if item.boxes is None else {"boxes": item.boxes._asdict()}
    odd = {} if item.odd is None else {"odd": item.odd}
    return {"root": item.root, "classes": item.classes, "unreadable": item.unreadable, **boxes, **odd}


def _batch(item: ManifestSplit, schema: pa.Schema) -> pa.RecordBatch:
    rows, number = item.rows, len(item.rows.paths)
    labels = [None] * number if rows.labels is None else rows.labels
    columns: list[Any] = [rows.paths, rows.widths, rows.heights, labels, [item.split] * number, rows.hashes]
    if rows.places is not None:
        shards = [rows.places.shards[index] for index in rows.places.numbers]
        columns += [shards, rows.places.offsets, rows.places.sizes]
    arrays = [pa.array(column, column_field.type) for column, column_field in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def load_split(manifest: Path, split: str) -> ImageSet:
    """Load the images of one split as they are listed, even if they are not there.

    Raises:
        ScfsError: no manifest there, not a manifest, or no such split.
    """
    return load_with_table(manifest, split)[0]


def load_rows(manifest: Path, split: str) -> ImageRows:
    """Load the rows of one split.

    Raises:
        ScfsError: see `load_split`.
    """
    table, about = _read(manifest)
    _entry_of(manifest, about, split)
    return _rows(table.filter(pc.equal(table["split"], split)))


def numbers_of_images(manifest: Path) -> dict[str, int]:
    """Count the listed images by split.

    Raises:
        ScfsError: no manifest there, or not a manifest.
    """
    table, about = _read(manifest)
    return {split: pc.sum(pc.equal(table["split"], split)).as_py() or 0 for split in about["splits"]}


def load_with_table(manifest: Path, split: str) -> tuple[ImageSet, pa.Table, dict[str, Any]]:
    """Load a split's images, and the manifest's whole table and metadata."""
    table, about = _read(manifest)
    entry = _entry_of(manifest, about, split)
    rows = _rows(table.filter(pc.equal(table["split"], split)))
    images = ImageSet.of(about["name"], split, manifest.parent / entry["root"], entry["classes"], rows)
    return images, table, about


def _entry_of(manifest: Path, about: dict[str, Any], split: str) -> dict[str, Any]:
    if split not in about["splits"]:
        raise ScfsError(f"{manifest}: split = {split!r}: not among {sorted(about['splits'])}")
    entry: dict[str, Any] = about["splits"][split]
    return entry


def describe(manifest: Path) -> dict[str, Any]:
    """Load a manifest's metadata: name, source, config, splits (by name: root, classes, unreadable, perhaps boxes).

    Raises:
        ScfsError: no manifest there, or not a manifest.
    """
    return _read(manifest)[1]


def _read(manifest: Path) -> tuple[pa.Table, dict[str, Any]]:
    """Read a manifest's table and metadata."""
    if not manifest.is_file():
        raise ScfsError(f"{manifest}: not found: run `scfs prepare {manifest.parent.name}` first")
    try:
        with manifest.open("rb") as file:
            table = read_parquet(file)
    except (pa.ArrowException, OSError) as error:
        raise ScfsError(f"{manifest}: not a Parquet file: {error}") from None
    metadata = table.schema.metadata or {}
    names = COLUMNS.names, [*COLUMNS.names, *(column.name for column in PLACES)]
    if table.schema.names not in names or b"scfs" not in metadata:
        raise ScfsError(f"{manifest}: not a manifest: run `scfs prepare {manifest.parent.name}`")
    about: dict[str, Any] = json.loads(metadata[b"scfs"])
    return table, about


def _rows(table: pa.Table) -> ImageRows:
    column = {name: table[name].to_pylist() for name in ("path", "width", "height", "sha256", "label")}
    labels = None if table["label"].null_count else column["label"]
    places = Places.of_table(table) if "shard" in table.schema.names else None
    return ImageRows(column["path"], column["width"], column["height"], column["sha256"], labels, places)
