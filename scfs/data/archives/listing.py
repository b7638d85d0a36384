"""Text for a terminal: facts of the official data sets, and which of their archives are there."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import yaml
from tqdm import tqdm

from scfs.config.official_sets import RequiredArchive, catalogue, official_set, required_archives
from scfs.io.text_table import listing

_bytes = partial(tqdm.format_sizeof, suffix="B")
"""Writes a number of bytes with a unit; a kilobyte has 1,000."""


def list_all(folder: Path) -> str:
    """List all sets, one on a line: images, archives that are there, their size, and what is missing."""
    rows = [("set", "images", "archives", "bytes", "not there")]
    for name, official in catalogue().items():
        items = [(item, state(item)) for item in required_archives(name, folder)]
        there = [item.path.stat().st_size for item, found in items if found == "there"]
        others = {item.role: "" if found == "missing" else f" ({found})" for item, found in items if found != "there"}
        images, size = sum(official.splits.values()), _sum(item.archive.size for item, _ in items)
        absent = ", ".join(role + found for role, found in others.items()) or "-"
        rows.append((name, f"{images:,}", f"{len(there)} of {len(items)}", f"{_sum(there)} of {size}", absent))
    return f"archives are looked for in {folder}/<set>\n\n{listing(rows)}"


def describe(name: str, folder: Path) -> str:
    """Describe a set as the catalogue does, as YAML, with the places of its archives, and whether they are there.

    Raises:
        ScfsError: there is no such set.
    """
    items = list(required_archives(name, folder))
    size = _sum(item.archive.size for item in items)
    facts = {
        "set": name,
        **official_set(name).model_dump(mode="json", exclude={"archives"}),
        "space": f"{size} for the archives; their images as files or shards: about as much again",
        "archives": {
            item.role: {"path": f"{item.path}", "state": state(item), **item.archive.model_dump(mode="json")}
            for item in items
        },
    }
    return yaml.safe_dump(facts, sort_keys=False, allow_unicode=True, width=120)


def state(item: RequiredArchive) -> str:
    """Say if an archive is there, by its size alone: `there`, `missing`, `unfinished` or `another size`."""
    sizes = {item.archive.size, *(version.size for version in item.archive.also)}
    if item.path.is_file():
        size = item.path.stat().st_size
        return "there" if size in sizes or None in sizes else f"another size: {size} bytes"
    part = item.path.with_name(f".{item.path.name}.part")
    return f"unfinished: {_bytes(part.stat().st_size)} fetched" if part.is_file() else "missing"


def _sum(sizes: Iterable[int | None]) -> str:
    """Add up sizes, and say so if not all are known."""
    sizes = list(sizes)
    return _bytes(sum(size for size in sizes if size is not None)) + (" and more" if None in sizes else "")
