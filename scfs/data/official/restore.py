"""Images of official data sets that a stage finds missing: made again from the archives, exactly as the manifest lists.

So a clone that has the manifest, by `dvc pull`, and the archives, can train. Nothing is decoded and nothing decided:
bytes must have the hashes, and shards the offsets, of the manifest.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from scfs.config.base import parse
from scfs.config.data import Official
from scfs.data.archives.extraction import extract
from scfs.data.archives.verified import require_archives
from scfs.data.image_set import ImageSet, Place, close_files
from scfs.data.manifest import load_split
from scfs.data.official.layouts import FILES, ImageLayout, IncomingImage, layout_of, missing_of, working_in
from scfs.data.official.parsers import BOXES, LABELLED
from scfs.data.official.parsers.records import Record
from scfs.data.sources.registry import RESTORE
from scfs.errors import ScfsError
from scfs.io.ordered_map import ordered_map
from scfs.io.progress import log, track
from scfs.io.results import sha256_of

Wanted = dict[tuple[str, str], dict[str, Any]]
"""The manifest's rows of the images to be made again, by split and path."""


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


def _restore(manifest: Path, config: Official, missing: Mapping[str, set[str]]) -> None:
    folder, wanted = manifest.parent, _wanted(manifest, missing)
    archives = require_archives(config.entry, Path(config.archives))
    layout = layout_of(config, folder)
    close_files()  # others will stand in their places
    if config.has_boxes:
        extract(lambda: BOXES[config.entry](archives), folder / FILES)
        _check_files(manifest, wanted)
    else:
        with layout.parts():
            _write(manifest, wanted, layout, LABELLED[config.entry](archives)[1])


def _wanted(manifest: Path, missing: Mapping[str, set[str]]) -> Wanted:
    return {
        (split, row["path"]): row
        for split, names in missing.items()
        for row in load_split(manifest, split).table.to_pylist()
        if row.get("shard", row["path"]) in names
    }


def _check_files(manifest: Path, wanted: Wanted) -> None:
    """Compare extracted images with the manifest."""
    roots = {split: load_split(manifest, split).root for split, _ in wanted}
    for (split, path), row in wanted.items():
        if bytes.fromhex(sha256_of(roots[split] / path)) != row["sha256"]:
            raise _another_image(manifest, split, path)


def _write(manifest: Path, wanted: Wanted, layout: ImageLayout, records: Iterator[Record]) -> None:
    """Take the images that are wanted, which then are no more, from an archive's records, until all are there."""
    left = Counter(row.get("shard", "") for row in wanted.values())

    def items() -> Iterator[tuple[IncomingImage, dict[str, Any]]]:
        for record in records:
            row = wanted.pop((record.split, record.path), None)
            if row is not None:
                shard = row.get("shard", "")
                left[shard] -= 1
                yield IncomingImage(record, record.read(), shard.removesuffix(".tar"), not left[shard]), row
                if not wanted:
                    return

    def work(item: tuple[IncomingImage, dict[str, Any]]) -> None:
        image, row = item
        if hashlib.sha256(image.content).digest() != row["sha256"]:
            raise _another_image(manifest, image.record.split, image.record.path)
        layout.keep(image)

    tracked = track(items(), "images from the archives", "images", len(wanted))
    for (image, row), _ in ordered_map(tracked, work, lambda item: len(item[0].content)):
        place = layout.place(image)
        if "shard" in row and place != Place(row["shard"], row["offset"], row["size"]):
            raise ScfsError(f"{manifest}: {image.record.path}, read again, would lie elsewhere in {row['shard']}")
        if image.last:
            layout.close(image.batch)
    if wanted:
        split, path = next(iter(wanted))
        number = f"{len(wanted)} images that are listed are not in the archives"
        raise ScfsError(f"{manifest}: {number}, the first is {path} of split {split}")


def _another_image(manifest: Path, split: str, path: str) -> ScfsError:
    return ScfsError(
        f"{manifest}: {path} of split {split}, read again from the archives, is not the image that is listed: "
        f"run `scfs prepare {manifest.parent.name}` again"
    )
