"""Fetching public weights: checked against the catalogue, whole or not at all."""

from pathlib import Path

from scfs import paths
from scfs.errors import ScfsError
from scfs.fetch import Published
from scfs.fetch import fetch as fetch_file
from scfs.progress import log
from scfs.results import sha256_of
from scfs.weights.catalogue import Entry


def fetch(entry: Entry, folder: Path | None = None) -> Path:
    """File of an entry in `folder` (default: weights/downloads), fetched if it is not there yet.

    Raises:
        ScfsError: it has to be got by hand, cannot be fetched, or is not the file that the catalogue means.
    """
    path = (folder or paths.downloads()) / entry.file
    if entry.by_hand and not path.is_file():
        raise ScfsError(f"{path}: no such file; it has to be got by hand: {entry.by_hand}; put it there")
    known = Published(entry.size, None if entry.sha256 == "unknown" else entry.sha256)
    if fetch_file([entry.url], path, known.check, attempts=1) and entry.sha256 == "unknown":
        log(f"warning: {path}: the catalogue does not know its SHA-256; it is {sha256_of(path)}")
    return path
