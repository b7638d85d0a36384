"""Official archives: there, complete and the right ones, or fetched, or a line that says how to get them."""

from pathlib import Path

from scfs.data.catalogue import Needed, needed
from scfs.errors import ScfsError
from scfs.fetch import fetch


def obtain(name: str, folder: Path) -> dict[str, Path]:
    """Archives of a set by role, fetched to `folder`/<set> where they may be; all of them are read and checked.

    Raises:
        ScfsError: there is no such set; or an archive is another one than published, has to be got by hand, or cannot
            be fetched.
    """
    return {item.role: _obtain(item) for item in needed(name, folder)}


def _obtain(item: Needed) -> Path:
    path, archive = item.path, item.archive
    if not archive.urls and not path.is_file():
        raise ScfsError(f"{path}: no such file; it has to be got by hand: {archive.by_hand}; put it there")
    try:
        fetch(archive.urls, path, archive.check)
    except ScfsError as error:
        if path.is_file() or archive.by_hand is None:
            raise
        raise ScfsError(f"{error}; by hand: {archive.by_hand}") from None
    return path
