"""The source `official`, data sets with boxes: files from checked archives, which the sources `coco` and `voc` read.

Beside the manifest, and declared by no stage: files/ (what the archives hold), annotations/ (of VOC), .rows/ (a copy of
the finished manifest, for the next time) and report.json.
"""

import os
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from scfs.config.data import Coco, CocoSplit, Official, Voc
from scfs.config.identity import STAGE_VERSIONS
from scfs.data.archives.extraction import extract
from scfs.data.archives.verified import checksums, verified_archives
from scfs.data.manifest import MANIFEST, ManifestSplit, describe, load_split, write_manifest
from scfs.data.official import checks
from scfs.data.official.journal import IngestJournal
from scfs.data.official.layouts import FILES, REPORT, ROWS, missing_of, working_in
from scfs.data.official.parsers import BOXES
from scfs.data.official.parsers.coco import INSTANCES
from scfs.data.official.parsers.voc import LISTS
from scfs.data.sources import voc
from scfs.data.sources.coco import read_coco
from scfs.errors import ScfsError
from scfs.io.atomic import write_json, write_text, write_with
from scfs.io.progress import log


def prepare_boxes(name: str, config: Official, folder: Path) -> None:
    """Write the archives' files, report.json, and the manifest last of all.

    Raises:
        ScfsError: archives are missing, broken or not those of the catalogue; there is no room; images or annotations
            are unsound (see scfs.data.coco and voc); or the set is not what the catalogue says.
    """
    identity = {"version": STAGE_VERSIONS["prepare"], "name": name, "config": config}
    with working_in(folder):
        kept = IngestJournal(folder / ROWS, {**identity, "archives": checksums(config.entry)}).folder / MANIFEST
        if not (kept.is_file() and is_complete(kept, folder)):
            archives = verified_archives(config.entry, Path(config.archives))
            extract(lambda: BOXES[config.entry](archives), folder / FILES)
            _write(name, config, folder, kept)
        else:
            log(f"{folder}: all files are there: nothing is read again")
        write_with(folder / MANIFEST, lambda file: file.write(kept.read_bytes()))


def is_complete(kept: Path, folder: Path) -> bool:
    """True if all images that a manifest lists, and its annotations, are in a prepared data set's folder."""
    try:
        splits = describe(kept)["splits"]
        listed = [replace(load_split(kept, split), root=folder / entry["root"]) for split, entry in splits.items()]
    except ScfsError:
        return False
    boxes = all((folder / entry["boxes"]["file"]).is_file() for entry in splits.values())
    return boxes and not any(map(missing_of, listed))


def source_of(entry: str, files: Path) -> Coco | Voc:
    """Return the settings of the source that reads an entry's files, extracted to a folder."""
    if entry == "coco":
        splits = {
            split: CocoSplit(images=f"{files / f'{split}2017'}", annotations=f"{files / file}")
            for split, file in INSTANCES.items()
        }
        return Coco(source="coco", splits=splits, damaged=1)
    parts = Official(source="official", entry=entry).splits
    lists = {split: tuple(f"{files / LISTS[role]}" for role in roles) for split, roles in parts.items()}
    return Voc(source="voc", splits=lists, damaged=1)


def _write(name: str, config: Official, folder: Path, kept: Path) -> None:
    source = source_of(config.entry, folder / FILES)
    listed, texts = read_coco(source) if isinstance(source, Coco) else voc.read_voc(name, source)
    # The checks of a whole set look at this column, too.
    tables = {item.split: item.rows.append_column("problem", pa.nulls(len(item.rows), pa.string())) for item in listed}
    checks.check_numbers(name, tables, config.known_images, ())
    write_json(folder / REPORT, checks.report(name, tables))
    for file, text in texts.items():
        write_text(folder / file, text)
    write_manifest(kept, name, config, [_relative(item, folder.resolve()) for item in listed], checksums(config.entry))


def _relative(item: ManifestSplit, base: Path) -> ManifestSplit:
    """Make places relative to the data set's folder, so that they are the same on every machine."""
    assert item.boxes is not None
    boxes = item.boxes._replace(file=os.path.relpath(base / item.boxes.file, base))
    return replace(item, root=os.path.relpath(item.root, base), boxes=boxes)
