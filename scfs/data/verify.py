"""`scfs data verify`: are the images of a prepared data set those that its manifest lists? Nothing is changed."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scfs.config.data import MAX_PIXELS
from scfs.data.image_set import ImageSet, close_files
from scfs.data.manifest import describe, load_split
from scfs.data.official.layouts import files_below, missing_of
from scfs.data.sources.folders import ENDINGS, probe_file
from scfs.data.sources.registry import RESTORE
from scfs.errors import ScfsError
from scfs.io.ordered_map import ordered_map
from scfs.io.progress import track
from scfs.io.results import sha256_of

SHOWN = 10
"""Names of a kind that the text lists before it only counts."""


@dataclass
class VerifyReport:
    """Findings of `verify`."""

    manifest: Path
    remade: bool
    """True if the source can make missing images again."""
    images: int = 0
    """Listed ones."""
    missing: list[str] = field(default_factory=list)
    """Images, shards and annotations that are not there."""
    changed: list[str] = field(default_factory=list)
    """Images, shards and annotations whose content is another one, or cannot be read."""
    extra: list[str] = field(default_factory=list)
    """Files beside the images that nobody lists."""

    @property
    def sound(self) -> bool:
        """True if all is as listed, and nothing else is there."""
        return not (self.missing or self.changed or self.extra)

    def __str__(self) -> str:
        if self.sound:
            return f"{self.manifest}: all {self.images:,} images are as listed"
        lines = []
        for what, names in (("missing", self.missing), ("changed", self.changed), ("extra", self.extra)):
            if names:
                lines.append(f"{self.manifest}: {len(names)} {what}:")
                lines += [f"  {name}" for name in names[:SHOWN]]
                lines += [f"  and {len(names) - SHOWN} more"] if len(names) > SHOWN else []
        if self.remade and self.missing + self.changed:
            lines.append("  what is missing is made again when a stage reads the set; remove what is changed before")
        return "\n".join(lines)


def verify(manifest: Path) -> VerifyReport:
    """Read every image, shard and file of boxes that a manifest lists, and look for others.

    Files beside the images count as extra where the folder belongs to the data set alone: not those beside COCO's and
    VOC's images, of which a split takes a part.

    Raises:
        ScfsError: no manifest there, or not a manifest.
    """
    about = describe(manifest)
    report = VerifyReport(manifest, about["source"] in RESTORE)
    close_files()  # others may stand in their places
    sets = {split: load_split(manifest, split) for split in about["splits"]}
    for split, images in sets.items():
        _compare(images, report)
        boxes = about["splits"][split].get("boxes")
        path = manifest.parent / boxes["file"] if boxes else None
        if path and not path.is_file():
            report.missing.append(f"{path}")
        elif path and sha256_of(path) != boxes["sha256"]:
            report.changed.append(f"{path} (another content)")
    if not any("boxes" in entry for entry in about["splits"].values()):
        for root in dict.fromkeys(images.root for images in sets.values()):
            report.extra += _extra(root, [images for images in sets.values() if images.root == root], about)
    return report


def _compare(images: ImageSet, report: VerifyReport) -> None:
    missing = missing_of(images)
    report.images += len(images)
    report.missing += sorted(f"{images.root / name}" for name in missing)
    rows = [row for row, file in enumerate(images.files) if file not in missing]
    results = ordered_map(rows, lambda row: _is_same(images, row), lambda row: 0)
    for row, problem in track(results, f"verifying {images.name}, split {images.split}", "images", len(rows)):
        if problem:
            report.changed.append(f"{images.where(row)}{problem}")


def _is_same(images: ImageSet, row: int) -> str | None:
    """Say what is wrong with an image; None if nothing."""
    try:
        same = hashlib.sha256(images.read(row)).digest() == images.hashes[row]
    except ScfsError:
        return " (cannot be read)"
    return None if same else " (another content)"


def _extra(root: Path, sets: list[ImageSet], about: dict[str, Any]) -> Iterator[str]:
    """Yield files below a folder that none of the splits there lists."""
    if sets[0].placed and about["config"]["layout"] == "archive":
        return
    others = files_below(root).difference(*(images.files for images in sets))
    if about["source"] == "folder":
        others = set(_own_images(root, others, sets[0], about))
    yield from (f"{root / name}" for name in sorted(others) if "/." not in f"/{name}")  # hidden


def _own_images(root: Path, names: Iterable[str], images: ImageSet, about: dict[str, Any]) -> Iterator[str]:
    """Yield the images that `prepare` would have taken from a folder of one's own."""
    listed = about["config"].get("class_list") is not None
    left_out = about["splits"][images.split]["unreadable"] > 0
    for name in names:
        if not name.lower().endswith(ENDINGS) or (listed and name.partition("/")[0] not in images.classes):
            continue
        if not (left_out and probe_file(root / name, about["config"].get("max_pixels", MAX_PIXELS)).problem):
            yield name
