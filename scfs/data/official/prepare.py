"""The source `official`: from checked archives, as they are published, to images in place, batch by batch.

What a kill leaves is gone on with, and what is done stays done: see journal.py; sets with boxes: see prepare_boxes.py.
Beside the manifest, and declared by no stage: images/ or shards/, .rows/ (what is known of them) and report.json.
"""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from scfs.config.data import Official
from scfs.config.identity import STAGE_VERSIONS
from scfs.data import image_set
from scfs.data.archives.verified import checksums, verified_archives
from scfs.data.manifest import MANIFEST, ManifestSplit, write_manifest
from scfs.data.official import checks
from scfs.data.official.disk_space import require_disk_space
from scfs.data.official.ingest import ingest
from scfs.data.official.journal import IngestJournal
from scfs.data.official.layouts import REPORT, ROWS, ImageLayout, layout_of, working_in
from scfs.data.official.parsers import LABELLED
from scfs.data.official.prepare_boxes import prepare_boxes
from scfs.data.sources.folders import require_readable
from scfs.data.sources.published_lists import read_class_list
from scfs.data.sources.registry import PREPARE
from scfs.errors import ScfsError
from scfs.io.atomic import write_json
from scfs.io.progress import log

MEGABYTE = 1_000_000

Tables = dict[str, pa.Table]


@PREPARE.add("official")
def prepare_official(name: str, config: Official, folder: Path) -> None:
    """Write images, report.json, and the manifest last of all.

    Raises:
        ScfsError: archives are missing, broken or not those of the catalogue; there is no room; an image cannot be
            decoded and `unreadable` is "error"; or the set is not what the catalogue says. Of a set with boxes:
            see `prepare_boxes`.
    """
    if config.has_boxes:
        return prepare_boxes(name, config, folder)
    with working_in(folder):
        names = read_class_list(config.class_list) if config.class_list else None
        batches = IngestJournal(folder / ROWS, _identity(config, names))
        layout = layout_of(config, folder)
        done = _done(batches, layout)
        if done is None:
            _ingest(config, names, folder, batches, layout)
            done = _done(batches, layout)
        else:
            log(f"{folder}: all images are there: nothing is read again")
        if done is None:
            raise ScfsError(f"{folder}: images that were written are gone: who else changes this folder?")
        _finish(name, config, *done, layout)


def _identity(config: Official, names: tuple[str, ...] | None) -> dict[str, Any]:
    """Collect everything that rows and images depend on; a setting that was added counts if it is not its default."""
    return {
        **config.model_dump(mode="json", exclude={"source", "archives", "class_list", "unreadable"}),
        "version": STAGE_VERSIONS["prepare"],
        "archives": checksums(config.entry),
        "place": config.archives if config.layout == "archive" else "",
        "names": names,
    }


def _done(batches: IngestJournal, layout: ImageLayout) -> tuple[Tables, tuple[str, ...]] | None:
    """Load the rows by split and the classes, if all images are in place."""
    whole = batches.whole()
    return whole if whole and all(layout.has(split, rows) for split, rows in whole[0].items()) else None


def _ingest(
    config: Official, names: tuple[str, ...] | None, folder: Path, batches: IngestJournal, layout: ImageLayout
) -> None:
    require_disk_space(config, folder, batches.bytes_done(), len(names) if names else None)
    archives = verified_archives(config.entry, Path(config.archives))
    total = sum(config.known_images.values()) or None
    with layout.parts():
        classes, records = LABELLED[config.entry](archives, **({"names": names} if names else {}))
        counts = ingest(records, layout, batches, config.shard_size * MEGABYTE, config.check == "all", total)
        batches.finish(counts, classes)


def _finish(name: str, config: Official, found: Tables, classes: tuple[str, ...], layout: ImageLayout) -> None:
    """Check the set as a whole, and write its report and manifest."""
    tables = {split: found[split].sort_by("path") for split in config.splits if split in found}
    checks.check_numbers(name, found | tables, config.known_images, classes)
    report = checks.report(name, tables)
    write_json(layout.folder / REPORT, report)
    columns = [*image_set.ROWS.names, *([] if config.layout == "folder" else image_set.PLACES.names)]
    listed = []
    for split, table in tables.items():
        about = report["splits"][split]
        broken = [f"{path} ({problem})" for path, problem in about["unreadable"].items()]
        require_readable(f"{name}, split {split}", broken, len(table), config.unreadable)
        rows = table.filter(pc.is_null(table["problem"])).select(columns)
        listed.append(ManifestSplit(split, layout.root(split), rows, classes, len(broken), odd=about["odd"]))
    write_manifest(layout.folder / MANIFEST, name, config, listed, checksums(config.entry))
