"""File locks between processes of one machine: all by flock, and all gone with the process that holds them."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import gethostname

from scfs.errors import ScfsError, writing


@contextmanager
def file_lock(lock: Path, busy: str = "") -> Iterator[None]:
    """Hold `lock`, a file that stays.

    Args:
        lock: its folder is made if it is missing.
        busy: message if another process holds the lock; without one, wait until none does.

    Raises:
        ScfsError: the file cannot be written, or another process holds the lock and `busy` is given.
    """
    with writing(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if not busy:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        elif not try_lock(descriptor):
            raise ScfsError(busy)
        try:
            yield
        finally:
            # Closing is not enough: a process forked meanwhile has a copy of the descriptor, and with it the lock.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, which lies beside it, waiting until no other process does.

    Raises:
        ScfsError: the lock cannot be written.
    """
    with file_lock(folder.with_name(f".{folder.name}.lock")):
        yield


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder, whose content says who holds it.

    Raises:
        ScfsError: the folder cannot be used, or another process trains in it; the line says which.
    """
    lock = folder / "lock"
    holder = lock.read_text(encoding="utf-8", errors="replace") if lock.is_file() else "not known which"
    with file_lock(lock, busy=f"{folder}: another process is training this run: {holder}"):
        lock.write_text(f"process {os.getpid()} of {os.environ.get('USER', os.getuid())} on {gethostname()}")
        yield


def try_lock(descriptor: int) -> bool:
    """Lock an open file unless another process holds it; True if it is locked now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_held(lock: Path) -> bool:
    """True if a process holds this lock file."""
    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
