"""Published lists of classes, such as ImageNet-100's: checked against their hash, never fetched and never shipped."""

import hashlib
from pathlib import Path

from scfs.config.data import ClassList
from scfs.errors import ScfsError


def read_class_list(config: ClassList) -> tuple[str, ...]:
    """Names of a list, sorted.

    Raises:
        ScfsError: the file is missing, is another one, or holds no names.
    """
    path = Path(config.file)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ScfsError(
            f"{path}: class list cannot be read ({error.strerror}): get it from {config.url} and put it there"
        ) from None
    found = hashlib.sha256(content).hexdigest()
    if found != config.sha256:
        raise ScfsError(f"{path}: not the class list of {config.url}: its SHA-256 is {found}, wanted {config.sha256}")
    try:
        names = sorted(set(content.decode().split()))
    except UnicodeDecodeError:
        raise ScfsError(f"{path}: class list is not UTF-8 text") from None
    if not names:
        raise ScfsError(f"{path}: class list names no classes")
    return tuple(names)
