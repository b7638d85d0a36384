"""Published lists, of classes (ImageNet-100's) or of files: checked against their hash, never fetched nor shipped."""

import hashlib
from pathlib import Path

from scfs.config.data import ClassList, PublishedList
from scfs.errors import ScfsError, refusing


def read_class_list(config: ClassList) -> tuple[str, ...]:
    """Read the names of a list of classes, sorted.

    Raises:
        ScfsError: as `read_published`, or it holds no names.
    """
    names = sorted(set(read_published(config, "class list").split()))
    if not names:
        raise ScfsError(f"{config.file}: class list names no classes")
    return tuple(names)


def read_published(config: PublishedList, kind: str) -> str:
    """Read the text of a list; `kind` is what messages call it.

    Raises:
        ScfsError: the file is missing, is another one, or is no text.
    """
    path = Path(config.file)
    with refusing(f"{path}: {kind} cannot be read", OSError, advice=f": get it from {config.url} and put it there"):
        content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != config.sha256:
        raise ScfsError(f"{path}: not the {kind} of {config.url}: its SHA-256 is {found}, wanted {config.sha256}")
    with refusing(f"{path}: {kind} is not UTF-8 text", UnicodeDecodeError):
        return content.decode()
