"""Images of official data sets that a stage finds missing: made again from the archives, exactly as the manifest lists.

So a clone that has the manifest, by `dvc pull`, and the archives, can train. Nothing is decoded and nothing decided:
bytes must have the hashes, and shards the offsets, of the manifest.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from scfs.config.base import parse
from scfs.config.data import Official
from scfs.data.archives.extraction import extract
from scfs.data.archives.verified import require_archives
from scfs.data.image_set import ImageSet, Place, close_files
from scfs.data.manifest import load_rows, load_split
from scfs.data.official.layouts import (
    FILES,
    IMAGES,
    PART,
    SHARDS,
    files_below,
    keep_file,
    make_parts,
    remove_parts,
    size_of,
    working_in,
)
from scfs.data.official.parsers import BOXES, archived
from scfs.data.official.parsers.records import Record
from scfs.data.official.shards import ShardWriter
from scfs.data.sources.registry import RESTORE
from scfs.errors import ScfsError
from scfs.io.ordered_map import ordered_map
from scfs.io.progress import log, track
from scfs.io.results import sha256_of

Key = tuple[str, str]
"""Split and path."""


class Wanted(NamedTuple):
    """An image to be made again."""

    sha256: bytes
    place: Place | None
    """Place of its bytes in a shard; None: it is a file."""


class RestoredImage(NamedTuple):
    """An image read again."""

    key: Key
    want: Wanted
    content: bytes


@RESTORE.add("official")
def restore_images(manifest: Path, images: ImageSet, table: pa.Table, about: Mapping[str, Any]) -> None:
    """Make again what is missing of a data set if anything of one split is; several processes may ask at once.

    Args:
        manifest: of the data set.
        images: the split.
        table: the manifest's table; not used.
        about: the manifest's metadata.

    Raises:
        ScfsError: archives are missing: which, and where they are from; or what they hold is not what is listed; or
            it cannot be written.
    """
    if not _missing(manifest, images, about):
        return
    config: Official = parse(Official, about["config"], f"{manifest}")
    if config.layout == "archive":
        require_archives(config.entry, Path(config.archives))
        shard = min(_missing(manifest, images, about))
        raise ScfsError(f"{images.root / shard}: cut off: {manifest} lists images behind its end")
    with working_in(manifest.parent):
        everywhere = {split: _missing(manifest, load_split(manifest, split), about) for split in about["splits"]}
        if any(everywhere.values()):
            log(f"{manifest.parent}: images are missing, making them again as {manifest} lists them")
            _restore(manifest, config, everywhere)


def _missing(manifest: Path, images: ImageSet, about: Mapping[str, Any]) -> set[str]:
    """List what is missing of a split, and of its annotations if they were extracted beside the images."""
    boxes = about["splits"][images.split].get("boxes")
    lost = boxes and boxes["file"].startswith(f"{FILES}/") and not (manifest.parent / boxes["file"]).is_file()
    return missing_of(images) | ({boxes["file"]} if lost else set())


def missing_of(images: ImageSet) -> set[str]:
    """List files or shards of a split that are not there; a shard also if it ends before its images do."""
    if images.places is None:
        return set(images.paths) - files_below(images.root)
    ends = images.places.offsets + images.places.sizes
    reach = np.zeros(len(images.places.shards), np.int64)
    np.maximum.at(reach, images.places.numbers, ends)
    return {shard for shard, end in zip(images.places.shards, reach) if size_of(images.root / shard) < end}


def _restore(manifest: Path, config: Official, missing: Mapping[str, set[str]]) -> None:
    folder, wanted = manifest.parent, _wanted(manifest, missing)
    archives = require_archives(config.entry, Path(config.archives))
    try:
        if config.has_boxes:
            extract(lambda: BOXES[config.entry].extracted(archives), folder / FILES)
            _check_files(manifest, wanted)
        else:
            make_parts(folder)
            _Restorer(manifest, wanted).run(archived(config, archives)[1])
    finally:
        remove_parts(folder)
        close_files()


def _wanted(manifest: Path, missing: Mapping[str, set[str]]) -> dict[Key, Wanted]:
    found = {}
    for split, names in missing.items():
        rows = load_rows(manifest, split)
        for number, (path, sha256) in enumerate(zip(rows.paths, rows.hashes, strict=True)):
            place = rows.places[number] if rows.places is not None else None
            if (place.shard if place else path) in names:
                found[split, path] = Wanted(sha256, place)
    return found


def _check_files(manifest: Path, wanted: Mapping[Key, Wanted]) -> None:
    """Compare extracted images with the manifest."""
    roots = {split: load_split(manifest, split).root for split, _ in wanted}
    for split, path in wanted:
        if bytes.fromhex(sha256_of(roots[split] / path)) != wanted[split, path].sha256:
            raise _another_image(manifest, split, path)


class _Restorer:
    """Restores the images that are wanted from an archive's records, until it has all."""

    def __init__(self, manifest: Path, wanted: dict[Key, Wanted]) -> None:
        self._manifest, self._folder, self._wanted = manifest, manifest.parent, wanted
        self._total = len(wanted)
        self._left = Counter(want.place.shard for want in wanted.values() if want.place)
        self._open: dict[str, ShardWriter] = {}

    def run(self, records: Iterator[Record]) -> None:
        """Write them; raises ScfsError and OSError."""
        try:
            for item, sha256 in ordered_map(self._items(records), self._keep, lambda item: len(item.content)):
                if sha256 != item.want.sha256:
                    raise _another_image(self._manifest, *item.key)
                if item.want.place is not None:
                    self._append(item, item.want.place)
        finally:
            for writer in self._open.values():
                writer.discard()
        if self._wanted:
            split, path = next(iter(self._wanted))
            raise ScfsError(
                f"{self._manifest}: {len(self._wanted)} images that are listed are not in the archives, the first is "
                f"{path} of split {split}"
            )
        os.sync()

    def _items(self, records: Iterator[Record]) -> Iterator[RestoredImage]:
        return track(self._matching(records), "images from the archives", "images", self._total)

    def _matching(self, records: Iterator[Record]) -> Iterator[RestoredImage]:
        for record in records:
            want = self._wanted.pop((record.split, record.path), None)
            if want is not None:
                content = record.content if record.member is None else record.member.read()
                assert content is not None
                yield RestoredImage((record.split, record.path), want, content)
                if not self._wanted:
                    return

    def _keep(self, item: RestoredImage) -> bytes:
        sha256 = hashlib.sha256(item.content).digest()
        if item.want.place is None and sha256 == item.want.sha256:
            split, path = item.key
            keep_file(self._folder / IMAGES / split / path, item.content, self._folder / PART)
        return sha256

    def _append(self, item: RestoredImage, place: Place) -> None:
        shard = place.shard
        if shard not in self._open:
            self._open[shard] = ShardWriter(self._folder / SHARDS / shard, self._folder / PART / shard)
        if self._open[shard].add(item.key[1], item.content) != place:
            raise ScfsError(f"{self._manifest}: {item.key[1]}, read again, would lie elsewhere in {shard}")
        self._left[shard] -= 1
        if not self._left[shard]:
            self._open.pop(shard).close()


def _another_image(manifest: Path, split: str, path: str) -> ScfsError:
    return ScfsError(
        f"{manifest}: {path} of split {split}, read again from the archives, is not the image that is listed: "
        f"run `scfs prepare {manifest.parent.name}` again"
    )
