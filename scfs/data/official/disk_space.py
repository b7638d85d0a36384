"""Check that a disk has room for a data set, before hours are spent on finding out."""

from pathlib import Path

from scfs.config.data import Official
from scfs.config.official_sets import official_set
from scfs.io.disk_space import require_space

FILE_BYTES = 4096
"""Bytes that a file takes beyond its content: the rest of its last block, and its entry in a folder."""
SHARD_BYTES = 1024
"""Bytes that an image takes beyond its content in a tar: its header, and the rest of its last block."""
ROW_BYTES = 200
"""Bytes of an image in the manifest and in the ingest journal."""


def bytes_needed(config: Official, classes: int | None = None) -> int:
    """Estimate the space of a set of labelled images: they are as many bytes as its archives.

    Args:
        config: names entry and layout.
        classes: number of them, of a subset of ImageNet; None: all of the entry.
    """
    entry = official_set(config.entry)
    owners = [entry, *map(official_set, entry.uses)]
    everything = sum(archive.size or 0 for owner in owners for archive in owner.archives.values())
    images, whole = sum(config.known_images.values()), max(owner.classes for owner in owners)
    share = (classes or entry.classes) / whole
    images = images or round(share * sum(entry.splits.values()))
    each = {"folder": FILE_BYTES, "shards": SHARD_BYTES, "archive": 0}[config.layout]
    return images * (each + ROW_BYTES) + (0 if config.layout == "archive" else round(share * everything))


def require_disk_space(config: Official, folder: Path, done: int, classes: int | None = None) -> None:
    """Refuse to begin if there is too little space to finish.

    Args:
        config: see `bytes_needed`.
        folder: where the set is to be; it exists.
        done: bytes of it that are there.
        classes: see `bytes_needed`.

    Raises:
        ScfsError: less is free than is needed.
    """
    hint = "; layout: archive takes nothing" if config.is_imagenet and config.layout != "archive" else ""
    require_space(folder, bytes_needed(config, classes) - done, hint)
