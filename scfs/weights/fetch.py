"""Fetching public weights: resumed where it stopped, checked, whole or not at all."""

import fcntl
import hashlib
import http.client
import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from scfs import paths
from scfs.errors import ScfsError
from scfs.progress import log, track
from scfs.results import sha256_of
from scfs.weights.catalogue import Entry

PIECE = 1 << 20
SILENCE = 60.0
"""Seconds without a byte after which a connection counts as lost."""


def fetch(entry: Entry, folder: Path | None = None) -> Path:
    """File of an entry in `folder` (default: weights/downloads), fetched if it is not there yet.

    Raises:
        ScfsError: it has to be got by hand, cannot be fetched, or is not the file that the catalogue means.
    """
    folder = folder or paths.downloads()
    path = folder / entry.file
    if path.is_file():
        _check(path, entry, f"{path}: not the file of the catalogue: remove it to have it again: ")
        return path
    if entry.by_hand:
        raise ScfsError(f"{path}: no such file; it has to be got by hand: {entry.by_hand}; put it there")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder / f".{entry.file}.part") as part:
            if not path.is_file():  # another process may have fetched it while this one waited
                _receive(entry.url, part, path)
                try:
                    _check(part, entry, f"{entry.url}: fetched, but not the file of the catalogue; not kept: ")
                except ScfsError:
                    part.unlink()
                    raise
                part.replace(path)
    except OSError as error:
        raise ScfsError(f"{path}: could not be written: {error.strerror or error}") from None
    if entry.sha256 == "unknown":
        log(f"warning: {path}: the catalogue does not know its SHA-256; it is {sha256_of(path)}")
    return path


@contextmanager
def _alone(part: Path) -> Iterator[Path]:
    """Hold the unfinished file's lock: two runs may want the same weights at the same time."""
    lock = part.with_suffix(".lock")
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield part


def _receive(url: str, part: Path, path: Path) -> None:
    """Fetch `url` into `part`, whose bytes are kept from one attempt to the next."""
    started = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={started}-"} if started else {})
    try:
        with urllib.request.urlopen(request, timeout=SILENCE) as answer:
            resumed = started if answer.status == http.client.PARTIAL_CONTENT else 0
            length = answer.headers.get("Content-Length")
            expected = resumed + int(length) if length else None
            with part.open("ab" if resumed else "wb") as file:
                _copy(answer, file, path.name, expected, resumed)
                os.fsync(file.fileno())
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and _total(error) == started:
            return  # an earlier attempt got all of it
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink()
        raise ScfsError(f"{url}: could not be fetched: {error.code} {error.reason}; or put it at {path}") from None
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise ScfsError(f"{url}: could not be fetched: {reason}; start again to go on, or put it at {path}") from None
    arrived = part.stat().st_size
    if expected is not None and arrived != expected:
        raise ScfsError(f"{url}: ended after {arrived} of {expected} bytes; start again to go on")


def _total(error: urllib.error.HTTPError) -> int | None:
    """Whole length in the answer to a range that begins at the end: `Content-Range: bytes */123`."""
    found = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range", ""))
    return int(found[1]) if found else None


def _copy(answer: IO[bytes], file: IO[bytes], name: str, expected: int | None, started: int) -> None:
    if started:
        log(f"{name}: going on after {started} bytes")
    pieces = iter(lambda: answer.read(PIECE), b"")
    for piece in track(pieces, name, unit="MiB", total=-(-(expected - started) // PIECE) if expected else None):
        file.write(piece)


def _check(path: Path, entry: Entry, what: str) -> None:
    size = path.stat().st_size
    if entry.size is not None and size != entry.size:
        raise ScfsError(f"{what}it has {size} bytes, the catalogue says {entry.size}")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if entry.sha256 != "unknown" and not found.startswith(entry.sha256):
        raise ScfsError(f"{what}its SHA-256 is {found}, the catalogue says {entry.sha256}")
