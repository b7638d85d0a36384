"""The source `official`, data sets with boxes: files from checked archives, which the sources `coco` and `voc` read.

Beside the manifest, and declared by no stage: files/ (what the archives hold), annotations/ (of VOC), .rows/ (a copy of
the finished manifest, for the next time) and report.json.
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from scfs.config.data import Coco, CocoSplit, Official, Voc
from scfs.config.identity import STAGE_VERSIONS
from scfs.data.archives.extraction import extract
from scfs.data.archives.verified import checksums, verified_archives
from scfs.data.manifest import BoxFile, ManifestSplit, describe, load_split, write_manifest
from scfs.data.official import checks
from scfs.data.official.journal import IngestJournal
from scfs.data.official.layouts import FILES, REPORT, ROWS, files_below, working_in
from scfs.data.official.parsers import BOXES
from scfs.data.official.parsers.coco import INSTANCES
from scfs.data.official.parsers.voc import LISTS
from scfs.data.sources import voc
from scfs.data.sources.coco import read_coco
from scfs.errors import ScfsError
from scfs.io.atomic import replacing, write_json, write_text
from scfs.io.progress import log


def prepare_boxes(name: str, config: Official, folder: Path, manifest: Path) -> None:
    """Write the archives' files, report.json, and `manifest` last of all.

    Raises:
        ScfsError: archives are missing, broken or not those of the catalogue; there is no room; images or annotations
            are unsound (see scfs.data.coco and voc); or the set is not what the catalogue says.
    """
    identity = {"version": STAGE_VERSIONS["prepare"], "name": name, "config": config}
    with working_in(folder):
        kept = IngestJournal(folder / ROWS, {**identity, "archives": checksums(config.entry)}).folder / manifest.name
        if not (kept.is_file() and is_complete(kept, folder)):
            archives = verified_archives(config.entry, Path(config.archives))
            extract(lambda: BOXES[config.entry].extracted(archives), folder / FILES)
            _write(name, config, folder, kept)
        else:
            log(f"{folder}: all files are there: nothing is read again")
        with replacing(manifest) as temporary:
            shutil.copyfile(kept, temporary)


def is_complete(kept: Path, folder: Path) -> bool:
    """True if all images that a manifest lists, and its annotations, are in a prepared data set's folder."""
    try:
        splits = describe(kept)["splits"]
        listed = {split: load_split(kept, split).paths for split in splits}
    except ScfsError:
        return False
    boxes = all((folder / entry["boxes"]["file"]).is_file() for entry in splits.values())
    there = {root: files_below(folder / root) for root in {entry["root"] for entry in splits.values()}}
    return boxes and all(there[splits[split]["root"]].issuperset(paths) for split, paths in listed.items())


def source_of(entry: str, files: Path) -> Coco | Voc:
    """Return the settings of the source that reads an entry's files, extracted to a folder."""
    if entry == "coco":
        splits = {
            split: CocoSplit(images=f"{files / f'{split}2017'}", annotations=f"{files / file}")
            for split, file in INSTANCES.items()
        }
        return Coco(source="coco", splits=splits)
    parts = Official(source="official", entry=entry).splits
    lists = {split: tuple(f"{files / LISTS[role]}" for role in roles) for split, roles in parts.items()}
    return Voc(source="voc", splits=lists)


def _write(name: str, config: Official, folder: Path, kept: Path) -> None:
    source = source_of(config.entry, folder / FILES)
    texts: dict[str, str] = {}
    if isinstance(source, Coco):
        listed = read_coco(source.splits)
    else:
        listed, texts = voc.read_voc(name, source)
    tables = {item.split: _table(item) for item in listed}
    checks.check_numbers(name, tables, config.known_images, ())
    write_json(folder / REPORT, checks.report(name, tables))
    for file, text in texts.items():
        write_text(folder / file, text)
    write_manifest(kept, name, config, _relative(listed, folder), checksums(config.entry))


def _relative(listed: Sequence[ManifestSplit], folder: Path) -> list[ManifestSplit]:
    """Make places relative to the data set's folder, so that they are the same on every machine."""
    base = folder.resolve()
    found = []
    for item in listed:
        assert item.boxes is not None
        boxes = BoxFile(os.path.relpath(base / item.boxes.file, base), item.boxes.sha256)
        found.append(replace(item, root=os.path.relpath(item.root, base), boxes=boxes))
    return found


def _table(item: ManifestSplit) -> pa.Table:
    """Build the columns that the checks of a whole set look at."""
    number = len(item.rows.paths)
    nothing = pa.nulls(number, pa.string())
    return pa.table(
        {
            "path": pa.array(item.rows.paths, pa.string()),
            "label": pa.array([0] * number, pa.int32()),
            "sha256": pa.array(item.rows.hashes, pa.binary(32)),
            "odd": nothing,
            "problem": nothing,
        }
    )
