"""Files that appear whole or not at all: temporary name in the same folder, fsync, rename."""

import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from scfs.errors import ScfsError

if TYPE_CHECKING:
    import numpy as np


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it replaces `path` if the block succeeds and is removed if it does not.

    Raises:
        ScfsError: the disk is full or the folder cannot be written; whatever stood at `path` is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise ScfsError(f"{path}: could not be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # not there, as after a success, or its folder is none
            temporary.unlink()


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, not only the bytes."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_with(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Call `write` with an open binary file that becomes `path` when it returns."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        write(file)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text."""
    write_with(path, lambda file: file.write(text.encode()))


def write_json(path: Path, value: Any) -> None:
    """Write JSON with sorted keys, so that equal values give equal bytes."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def write_arrays(path: Path, arrays: "Mapping[str, np.ndarray[Any, Any]]", compressed: bool = False) -> None:
    """Write an .npz file; equal arrays give equal bytes under every Python, which numpy's own writer does not do."""
    import numpy as np

    method = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED

    def write(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w", method) as archive:
            for name, array in arrays.items():
                content = io.BytesIO()
                np.lib.format.write_array(content, np.asanyarray(array), allow_pickle=False)
                archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getbuffer(), method)

    write_with(path, write)
