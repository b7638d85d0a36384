"""The manifest of a data set: one Parquet table of its images, the declared output of `prepare`.

Columns: path, width, height, label (null: none), split, sha256; where images are not files of their own also shard (the
file that they lie in), offset and size in bytes. The schema's metadata (key `scfs`, JSON) hold the data set's name and
source, its configuration, and per split the root folder, the classes, how many images were left out, and the file of
its boxes with its SHA-256 where there is one (sources coco, voc, official); of official archives also the checksums,
and odd images. Pages have checksums, and the metadata a SHA-256 of all (key `sha256`): a flipped bit is noticed.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scfs.config.data_source import DataSource
from scfs.config.identity import canonical
from scfs.data.image_set import PLACES, ROWS, ImageSet, warn_of_new_labels
from scfs.errors import ScfsError, refusing
from scfs.io.atomic import write_with
from scfs.io.parquet import read_parquet
from scfs.io.progress import log

MANIFEST = "manifest.parquet"
"""Name of the manifest in a prepared data set's folder."""

DIGEST = b"sha256"
"""Key of the metadata: SHA-256 of all cells and of the metadata `scfs`; manifests made before do not have it."""
_log_once = cache(log)
OUTSIDE = r"^/|(^|/)\.\.(/|$)"
"""Paths that are absolute or go up."""

COLUMNS = ROWS.insert(ROWS.get_field_index("sha256"), pa.field("split", pa.string(), nullable=False))


class BoxFile(NamedTuple):
    """COCO JSON with the boxes of a split."""

    file: str
    """Absolute, or relative to the manifest's folder."""
    sha256: str
    """Hash of its content, in hexadecimal digits."""
    repaired: str = ""
    """File that it was repaired from (absolute); empty: from none."""
    origin: tuple[int, int] = (1, 0)
    """Where the coordinates of a devkit begin (`scfs.data.sources.voc_xml.Origin`); (1, 0): as VOC's."""


@dataclass(frozen=True, eq=False)
class ManifestSplit:
    """One split as it is written."""

    split: str
    root: str
    """Folder of the images: absolute, or relative to the manifest's."""
    rows: pa.Table
    """Images: columns ROWS, and PLACES where they lie in larger files (scfs.data.image_set)."""
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

    A number of images that is not the known one, and labels that a test split has alone, are logged as warnings.

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
        found = len(item.rows)
        expected = config.known_images.get(item.split, found)
        if found != expected:
            log(f"warning: {item.root}: {found} images of split {item.split}, {expected} were expected")
    warn_of_new_labels(name, {item.split: (item.rows, item.classes) for item in splits})
    about = {
        "name": name,
        "source": config.source,
        "config": config,
        "splits": {item.split: _entry(item) for item in splits},
        **({} if archives is None else {"archives": archives}),
    }
    columns = [*COLUMNS, *(PLACES if "shard" in splits[0].rows.column_names else [])]
    schema = pa.schema(columns, {"scfs": canonical(about)})
    table = pa.concat_tables(_rows(item, schema) for item in splits)
    with suppress(ScfsError):  # a manifest without a digest stays if it says the same, and nothing is stale
        before = _read(path)[0]
        if before.equals(table) and before.schema.metadata == schema.metadata:
            return
    table = table.replace_schema_metadata({**schema.metadata, DIGEST: _digest(table)})
    write_with(path, lambda file: pq.write_table(table, file, compression="zstd", write_page_checksum=True))


def _digest(table: pa.Table) -> bytes:
    """Hash the metadata and all cells: damage to the structures around pages can change them, in spite of checksums."""
    digest = hashlib.sha256(table.schema.metadata[b"scfs"])
    for column in table.columns:
        if pa.types.is_integer(column.type):
            digest.update(pc.fill_null(column, -1).to_numpy().astype("<i8").tobytes())
        else:
            digest.update(pc.binary_length(column).to_numpy().astype("<i8").tobytes())
            digest.update(b"".join(column.cast(pa.binary()).to_pylist()))
    return digest.hexdigest().encode()


def _entry(item: ManifestSplit) -> dict[str, Any]:
    defaults = BoxFile("", "")._asdict().items()
    boxes = {} if item.boxes is None else {"boxes": dict(item.boxes._asdict().items() - defaults)}
    odd = {} if item.odd is None else {"odd": item.odd}
    # Official sets list every odd image; of one's own, half of which may be turned, each kind has its number.
    noted = item.odd is None and "odd" in item.rows.column_names
    counts = count_notes(zip(*(item.rows[key].to_pylist() for key in ("path", "odd")))) if noted else {}
    notes = {"notes": counts} if counts else {}
    return {"root": item.root, "classes": item.classes, "unreadable": item.unreadable, **boxes, **odd, **notes}


def count_notes(odd: Iterable[tuple[str, str | None]]) -> dict[str, tuple[int, str]]:
    """Count images by what was noted of them (`odd`, by path): the number, and the first one's path."""
    noted = [(note, path) for path, text in odd if text for note in text.split("; ")]
    first = dict(reversed(noted))
    return {note: (number, first[note]) for note, number in Counter(note for note, _ in noted).items()}


def _rows(item: ManifestSplit, schema: pa.Schema) -> pa.Table:
    split = pa.array([item.split] * len(item.rows), pa.string())
    return item.rows.append_column("split", [split]).select(schema.names).cast(schema).combine_chunks()


def load_split(manifest: Path, split: str) -> ImageSet:
    """Load the images of one split as they are listed, even if they are not there.

    Raises:
        ScfsError: no manifest there, not a manifest, or no such split.
    """
    return load_with_table(manifest, split)[0]


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
    if split not in about["splits"]:
        raise ScfsError(f"{manifest}: split = {split!r}: not among {sorted(about['splits'])}")
    entry = about["splits"][split]
    rows = table.filter(pc.equal(table["split"], split)).drop_columns("split")
    images = ImageSet.of(about["name"], split, manifest.parent / entry["root"], entry["classes"], rows)
    return images, table, about


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
    again = f"run `scfs prepare {manifest.parent.name}`"
    broken = f"{manifest}: damaged, or not a Parquet file"
    with refusing(broken, pa.ArrowException, OSError, advice=f": {again}"), manifest.open("rb") as file:
        table = read_parquet(file)
        table.validate(full=True)
    metadata = table.schema.metadata or {}
    types = [*zip(table.column_names, table.schema.types)]
    whole = [(field.name, field.type) for field in [*COLUMNS, *PLACES]]
    if types not in (whole[: len(COLUMNS)], whole) or not {b"scfs"} <= metadata.keys() <= {b"scfs", DIGEST}:
        raise ScfsError(f"{manifest}: not a manifest: {again}")
    if DIGEST not in metadata:
        _log_once(f"{manifest}: made before manifests had checksums: damage to it may go unnoticed")
    elif _digest(table) != metadata[DIGEST]:
        raise ScfsError(f"{manifest}: damaged: its content is not the one whose SHA-256 it has: {again}")
    broken = f"{manifest}: damaged: its description is not one of a data set"
    with refusing(broken, AttributeError, KeyError, TypeError, ValueError, advice=f": {again}"):
        about: dict[str, Any] = json.loads(metadata[b"scfs"])
        _ = about["name"], about["source"], about["config"]
        _ = [(entry["root"], entry["classes"], entry["unreadable"]) for entry in about["splits"].values()]
    for name in ("path", "shard") if about["source"] != "table" else ():  # tables may name images anywhere
        if name in table.column_names and pc.any(pc.match_substring_regex(table[name], OUTSIDE)).as_py():
            raise ScfsError(f"{manifest}: damaged: column {name} leaves the folder of the images: {again}")
    return table, about
