"""Files and folders that appear whole or not at all: temporary name in the same folder, fsync, rename."""

import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from scfs.errors import refusing, writing
from scfs.io.locks import is_held, try_lock

if TYPE_CHECKING:
    import numpy as np


def write_with(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Call `write` with an open binary file that becomes `path` when it returns, and is removed if it does not.

    Those that killed processes left of `path` are removed too; a process that lives holds a lock on its own.

    Raises:
        ScfsError: the disk is full or the folder cannot be written; whatever stood at `path` is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            for left in path.parent.glob(f".{escape(path.name)}.*.tmp"):
                with suppress(OSError):  # it is another user's
                    if not is_held(left):
                        left.unlink()
            with temporary.open("wb") as file:
                try_lock(file.fileno())
                write(file)
                file.flush()
                move_into_place(temporary, path)
    finally:
        with suppress(OSError):  # not there, as after a success, or its folder is none
            temporary.unlink()


def move_into_place(temporary: Path, path: Path, *, durable: bool = True) -> None:
    """Give a finished file its name, in a folder that is made if it is missing; what stood there is replaced.

    Args:
        temporary: the file, on the same file system.
        path: its new name.
        durable: make bytes and name outlast a power cut; False: the caller does it once for many files, by os.sync.

    Raises:
        OSError: the file cannot be moved.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if durable:
        _fsync(temporary)
    temporary.replace(path)
    if durable:
        _fsync(path.parent)


def _fsync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing_folder(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield an empty folder that becomes `path` if the block succeeds and is removed if it does not.

    Args:
        path: its lock is held by the caller (scfs.io.locks.folder_lock): what a killed process left is removed.
        durable: wait until all files are on the disk, so that a power cut leaves no part of them.

    Raises:
        ScfsError: the disk is full or the folder cannot be written; a folder that stood at `path` is untouched.
    """
    temporary, old = (path.with_name(f".{path.name}.{state}") for state in ("new", "old"))
    try:
        with writing(path):
            for folder in (temporary, old):
                shutil.rmtree(folder, ignore_errors=True)
            temporary.mkdir(parents=True)
            yield temporary
            if durable:
                os.sync()
            if path.exists():
                path.rename(old)
            temporary.rename(path)
    finally:
        for folder in (temporary, old):
            shutil.rmtree(folder, ignore_errors=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes."""
    write_with(path, lambda file: file.write(content))


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write JSON with sorted keys, so that equal values give equal bytes.

    Raises:
        ScfsError: a number is not finite.
    """
    with refusing(f"{path}: not written", ValueError):
        text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_text(path, f"{text}\n")


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
