"""The source `official`, data sets of labelled images: from checked archives to images in place, batch by batch.

What a kill leaves is gone on with, and what is done stays done: see journal.py. Beside the manifest, and
declared by no stage: images/ or shards/, .rows/ (what is known of them) and report.json.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from scfs.config.data import Official
from scfs.config.identity import STAGE_VERSIONS
from scfs.data.archives.verified import checksums, verified_archives
from scfs.data.image_set import ImageRows, Places
from scfs.data.manifest import ManifestSplit, write_manifest
from scfs.data.official import checks
from scfs.data.official.disk_space import require_disk_space
from scfs.data.official.ingest import ingest
from scfs.data.official.journal import IngestJournal
from scfs.data.official.layouts import (
    REPORT,
    ROWS,
    ArchiveLayout,
    FileLayout,
    ImageLayout,
    ShardLayout,
    make_parts,
    working_in,
)
from scfs.data.official.parsers import archived
from scfs.data.sources.published_lists import read_class_list
from scfs.errors import ScfsError
from scfs.io.atomic import write_json
from scfs.io.progress import log

MEGABYTE = 1_000_000

Tables = dict[str, pa.Table]


def prepare_labelled(name: str, config: Official, folder: Path, manifest: Path) -> None:
    """Write images, report.json, and `manifest` last of all.

    Raises:
        ScfsError: archives are missing, broken or not those of the catalogue; there is no room; an image cannot be
            decoded and `unreadable` is "error"; or the set is not what the catalogue says.
    """
    with working_in(folder):
        names = read_class_list(config.class_list) if config.class_list else None
        batches = IngestJournal(folder / ROWS, _identity(config, names))
        layout = layout_of(config, folder)
        tables = _done(batches, layout)
        if tables is None:
            _ingest(config, names, folder, batches, layout)
            tables = _done(batches, layout)
        else:
            log(f"{folder}: all images are there: nothing is read again")
        if tables is None:
            raise ScfsError(f"{folder}: images that were written are gone: who else changes this folder?")
        _finish(name, config, batches.classes(), tables, layout, manifest)


def layout_of(config: Official, folder: Path) -> ImageLayout:
    """Return how images lie in a prepared data set's folder."""
    if config.layout == "archive":
        return ArchiveLayout(folder, Path(config.archives))
    return ShardLayout(folder) if config.layout == "shards" else FileLayout(folder)


def _identity(config: Official, names: tuple[str, ...] | None) -> dict[str, Any]:
    """Collect everything that rows and images depend on; a setting that was added counts if it is not its default."""
    known = {"source", "entry", "archives", "layout", "shard_size", "class_list", "check", "unreadable"}
    return {
        **config.model_dump(mode="json", exclude=known),
        "version": STAGE_VERSIONS["prepare"],
        "entry": config.entry,
        "archives": checksums(config.entry),
        "layout": config.layout,
        "place": config.archives if config.layout == "archive" else "",
        "shard_size": config.shard_size,
        "names": names,
        "check": config.check,
    }


def _done(batches: IngestJournal, layout: ImageLayout) -> Tables | None:
    """Load the rows by split, if all images are in place."""
    parts = batches.tables()
    if parts is None or not all(layout.has(split, table) for split, tables in parts.items() for table in tables):
        return None
    return {split: pa.concat_tables(tables) for split, tables in parts.items()}


def _ingest(
    config: Official, names: tuple[str, ...] | None, folder: Path, batches: IngestJournal, layout: ImageLayout
) -> None:
    require_disk_space(config, folder, batches.bytes_done(), len(names) if names else None)
    archives = verified_archives(config.entry, Path(config.archives))
    make_parts(folder)
    try:
        classes, records = archived(config, archives, names)
        total = sum(config.known_images.values()) or None
        size = config.shard_size * MEGABYTE
        counts = ingest(records, layout, batches, size, config.check == "all", total)
        batches.finish(counts, classes)
    finally:
        layout.discard()


def _finish(
    name: str, config: Official, classes: tuple[str, ...], found: Tables, layout: ImageLayout, manifest: Path
) -> None:
    """Check the set as a whole, and write its report and manifest."""
    tables = {split: found[split].sort_by("path") for split in config.splits if split in found}
    checks.check_numbers(name, found | tables, config.known_images, classes)
    reports = checks.report(name, tables)
    write_json(manifest.with_name(REPORT), reports)
    listed = []
    for split, table in tables.items():
        about = reports["splits"][split]
        _require_readable(name, split, about["unreadable"], len(table), config.unreadable)
        rows = _rows(table.filter(pc.is_null(table["problem"])), config.layout != "folder")
        unreadable = len(about["unreadable"])
        listed.append(ManifestSplit(split, layout.root(split), rows, classes, unreadable, odd=about["odd"]))
    write_manifest(manifest, name, config, listed, checksums(config.entry))


def _require_readable(name: str, split: str, broken: Mapping[str, str], images: int, unreadable: str) -> None:
    if not broken:
        return
    path, problem = next(iter(broken.items()))
    number = f"{len(broken)} of {images} images of split {split}"
    found = f"{name}: {number} cannot be decoded, the first is {path} ({problem})"
    if unreadable == "error":
        raise ScfsError(f"{found}; the setting unreadable: skip leaves such images out")
    log(f"{found}; left out")


def _rows(table: pa.Table, placed: bool) -> ImageRows:
    column = {name: table[name].to_pylist() for name in ("path", "width", "height", "sha256", "label")}
    places = Places.of_table(table) if placed else None
    return ImageRows(column["path"], column["width"], column["height"], column["sha256"], column["label"], places)
