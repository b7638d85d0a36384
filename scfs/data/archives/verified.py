"""Archives that a data set is made from, checked: once each, as ImageNet's take minutes to read.

What was checked is noted beside the archives (.checked.json: size, time and hash), where it can be written. It holds as
long as the file's size and time stay, and the catalogue says the same of it.
"""

import json
from pathlib import Path
from typing import Any

from scfs.config.official_sets import Archive, RequiredArchive, required_archives
from scfs.errors import ScfsError
from scfs.io.atomic import write_json
from scfs.io.download import fetch
from scfs.io.progress import log

NOTES = ".checked.json"


def verified_archives(name: str, folder: Path) -> dict[str, Path]:
    """Fetch what is missing of a set's archives, in `folder`/<set>, verify them all, and return their paths by role.

    Raises:
        ScfsError: there is no such set; archives have to be got by hand: which and where; or one cannot be fetched, or
            is another one than published.
    """
    return {item.role: _ready(item) for item in _archives(name, folder, fetched=True)}


def require_archives(name: str, folder: Path) -> dict[str, Path]:
    """Return the paths of a set's archives by role, if all are there; nothing is fetched or checked.

    Raises:
        ScfsError: some are missing: which, and where they are from.
    """
    return {item.role: item.path for item in _archives(name, folder, fetched=False)}


def _archives(name: str, folder: Path, fetched: bool) -> list[RequiredArchive]:
    """List a set's archives, and refuse those that are missing, but not those that can be `fetched`."""
    items = list(required_archives(name, folder))
    sources: dict[str, list[str]] = {}
    for item in items:
        if not item.path.is_file() and not (fetched and item.archive.urls):
            source = f"from {item.archive.urls[0]}" if item.archive.urls else f"by hand: {item.archive.by_hand}"
            sources.setdefault(source, []).append(f"{item.path}")
    if sources:
        missing = (f"{', '.join(files)} ({source})" for source, files in sources.items())
        raise ScfsError("archives are missing: " + "; ".join(missing))
    return items


def checksums(name: str) -> dict[str, str]:
    """Return the published hashes of a set's archives by name: they tell them from others."""
    return {f"{item.path}": _hash(item.archive) for item in required_archives(name, Path())}


def _hash(archive: Archive) -> str:
    known = (("sha256", archive.sha256), ("md5", archive.md5), ("size", archive.size))
    return next((f"{kind}:{value}" for kind, value in known if value is not None), "unknown")


def _ready(item: RequiredArchive) -> Path:
    path, archive = item.path, item.archive
    if path.is_file() and _notes(path).get(path.name) == _note(item):
        return path
    try:
        if not fetch(archive.urls, path, archive.check):
            log(f"{path}: checked, {_hash(archive).partition(':')[0]} as published")
    except ScfsError as error:
        if path.is_file() or archive.by_hand is None:
            raise
        raise ScfsError(f"{error}; by hand: {archive.by_hand}") from None
    try:
        write_json(path.with_name(NOTES), {**_notes(path), path.name: _note(item)})
    except ScfsError:
        log(f"{path.parent}: cannot be written: its archives are checked anew each time")
    return path


def _note(item: RequiredArchive) -> dict[str, Any]:
    found = item.path.stat()
    return {"size": found.st_size, "mtime_ns": found.st_mtime_ns, "hash": _hash(item.archive)}


def _notes(path: Path) -> dict[str, Any]:
    try:
        notes = json.loads(path.with_name(NOTES).read_text())
    except (OSError, ValueError):
        return {}
    return notes if isinstance(notes, dict) else {}
