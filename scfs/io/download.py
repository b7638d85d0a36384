"""Fetching files: resumed where it stopped, from the next mirror if one fails, checked, whole or not at all."""

import hashlib
import http.client
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Literal

from scfs.errors import ScfsError, refusing, writing
from scfs.io.atomic import move_into_place
from scfs.io.disk_space import require_space
from scfs.io.locks import file_lock
from scfs.io.progress import log, track

PIECE = 1 << 20
SILENCE = 60.0
"""Seconds without a byte after which a connection counts as lost."""
LONGEST_WAIT = 60.0
PASSING = (408, 425, 429, 500, 502, 503, 504)
"""HTTP statuses of servers that may answer better later (RFC 9110, 6585, 8470)."""
CONNECTION_ERRORS = (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError)


def check_published(path: Path, size: int | None, sha256: str | None = None, md5: str | None = None) -> None:
    """Compare a file's size, and the better of the hashes, with those that are published.

    Args:
        path: the file.
        size: bytes.
        sha256: hexadecimal, or its first digits.
        md5: hexadecimal: older data sets publish nothing better.

    Raises:
        ScfsError: it is another one; the line says what differs.
    """
    found = path.stat().st_size
    if size is not None and found != size:
        raise ScfsError(f"it has {found} bytes, the catalogue says {size}")
    what, published = ("SHA-256", sha256) if sha256 is not None else ("MD5", md5)
    if published is not None:
        hashed = digest(path, "sha256" if what == "SHA-256" else "md5")
        if not hashed.startswith(published):
            raise ScfsError(f"its {what} is {hashed}, the catalogue says {published}")


def digest(path: Path, algorithm: Literal["sha256", "md5"]) -> str:
    """Hash a file's content, hexadecimal."""
    found = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        pieces = iter(lambda: file.read(PIECE), b"")
        for piece in track(pieces, f"checking {path.name}", "MiB", -(-path.stat().st_size // PIECE)):
            found.update(piece)
    return found.hexdigest()


def fetch(
    urls: Sequence[str], path: Path, check: Callable[[Path], None], *, attempts: int = 5, wait: float = 2.0
) -> bool:
    """Fetch a file to `path` if it is not there yet, and check it in any case.

    Args:
        urls: mirrors of it (http, https, file), tried in turn.
        path: where to put it; what has arrived of it stands beside it (.<name>.part) and is gone on with next time.
        check: raises ScfsError with the reason if it is not the file meant.
        attempts: rounds of all mirrors, without one new byte, after which to give up; 1: ask each of them once.
        wait: seconds between two rounds; twice as many after each that brings no new byte, a minute at most.

    Returns:
        Whether it was fetched.

    Raises:
        ScfsError: it is there but another one, or cannot be fetched, or there is no room for it. One line.
    """
    if path.is_file():
        with refusing(f"{path}: not the file of the catalogue: remove it to have it again", ScfsError):
            check(path)
        return False
    if not urls:
        raise ScfsError(f"{path}: no such file, and there is nowhere to fetch it from")
    with writing(path), file_lock(path.with_name(f".{path.name}.lock")):
        if not path.is_file():  # another process may have fetched it while this one waited
            part = path.with_name(f".{path.name}.part")
            _ask_in_rounds(urls, path, part, check, attempts, wait)
            move_into_place(part, path)
    return True


class _FetchError(Exception):
    """Why a mirror did not bring the file."""

    def __init__(self, reason: str, final: bool) -> None:
        super().__init__(reason)
        self.final = final


def _ask_in_rounds(
    urls: Sequence[str], path: Path, part: Path, check: Callable[[Path], None], attempts: int, wait: float
) -> None:
    """Fill the unfinished file `part`, asking the mirrors in turn; raises ScfsError if none can."""
    failures: dict[str, _FetchError] = {}
    hopeful, furthest, failed = list(urls), _size(part), 0
    while True:
        for url in hopeful:
            try:
                return _ask(url, part, check)
            except _FetchError as failure:
                failures[url] = failure
        hopeful = [url for url in hopeful if not failures[url].final]
        arrived = _size(part)
        failed = 0 if arrived > furthest else failed + 1
        furthest = max(furthest, arrived)
        if not hopeful or max(failed, 1) >= attempts:
            break
        pause = min(LONGEST_WAIT, wait * 2 ** max(0, failed - 1))
        log(f"{path.name}: {failures[hopeful[0]]}; trying again in {pause:g} s")
        time.sleep(pause)
    reasons = "; ".join(f"{url}: {failure}" for url, failure in failures.items())
    again = "start again to go on, " if hopeful else ""
    raise ScfsError(f"{reasons}; {again}or put it at {path}")


def _ask(url: str, part: Path, check: Callable[[Path], None]) -> None:
    """Fetch the file from one mirror, and check it."""
    resumed = _receive(url, part, _size(part))
    try:
        check(part)
    except ScfsError as error:
        part.unlink()
        # If the file was resumed, another mirror or an older version may be to blame for the beginning.
        reason = f"fetched, but not the file of the catalogue; not kept: {error}"
        raise _FetchError(reason, final=not resumed) from None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _receive(url: str, part: Path, started: int) -> bool:
    """Fetch `url` into `part`, of which `started` bytes are there; return True if it was resumed after them."""
    headers = {"User-Agent": "scfs"} | ({"Range": f"bytes={started}-"} if started else {})
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=SILENCE) as answer:
            resumed = started if answer.status == http.client.PARTIAL_CONTENT else 0
            length = answer.headers.get("Content-Length")
            expected = resumed + int(length) if length and length.isdecimal() else None
            offered = answer.headers.get("Content-Range")
            if resumed and offered and not offered.startswith(f"bytes {resumed}-"):
                raise _FetchError(f"could not be fetched: asked for bytes {resumed}-, offered {offered}", final=True)
            if expected is not None:
                require_space(part.parent, expected - resumed)
            with part.open("ab" if resumed else "wb") as file:
                try:
                    _copy(answer, file, part, expected, resumed)
                finally:
                    file.flush()
                    os.fsync(file.fileno())
    except urllib.error.HTTPError as error:
        unsatisfiable = error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE
        if unsatisfiable and error.headers.get("Content-Range") == f"bytes */{started}":
            return True  # an earlier attempt got all of it
        if unsatisfiable:
            part.unlink()
        final = error.code not in PASSING and not unsatisfiable
        raise _FetchError(f"could not be fetched: {error.code} {error.reason}", final) from None
    except CONNECTION_ERRORS as error:
        reason = getattr(error, "reason", error)
        final = isinstance(reason, FileNotFoundError) or url.startswith("file:")
        raise _FetchError(f"could not be fetched: {reason}", final) from None
    arrived = part.stat().st_size
    if expected is not None and arrived != expected:
        raise _FetchError(f"ended after {arrived} of {expected} bytes", final=False)
    return resumed > 0


def _copy(answer: IO[bytes], file: IO[bytes], part: Path, expected: int | None, resumed: int) -> None:
    name = part.name.removeprefix(".").removesuffix(".part")
    if resumed:
        log(f"{name}: going on after {resumed} bytes")
    pieces = iter(lambda: answer.read(PIECE), b"")
    for piece in track(pieces, name, unit="MiB", total=-(-(expected - resumed) // PIECE) if expected else None):
        file.write(piece)
