"""The image files of the garment scenes: they appear as a whole folder, and are made again when they are missing.

They are not a declared output of any stage: the manifest is, and it holds all that is needed to rebuild them.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from scfs.config.data import GarmentScenes, SceneSplit
from scfs.data import grey_png
from scfs.data.scenes import Scene, compose
from scfs.errors import ScfsError
from scfs.progress import log, track

COMPLETE = ".complete"
"""File within the images' folder that holds the digest of all of them."""


class SceneFile(NamedTuple):
    """A scene and the file it was written to."""

    path: str
    """Relative to the images' folder."""
    sha256: bytes
    scene: Scene


def write_split(folder: Path, name: str, split: SceneSplit, seed: int) -> Iterator[SceneFile]:
    """Write the scenes of a split to folder/<name>/, one by one."""
    (folder / name).mkdir()
    for index in track(range(split.scenes), f"scenes: {name}", "images"):
        scene = compose(split, name, seed, index)
        content = grey_png.encode(scene.pixels)
        path = f"{name}/{index:06d}.png"
        (folder / path).write_bytes(content)
        yield SceneFile(path, hashlib.sha256(content).digest(), scene)


@contextmanager
def replacing_images(images: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `images` if the block succeeds and is removed if it does not.

    The caller holds the lock of `images`.

    Raises:
        ScfsError: the disk is full or the folder cannot be written; the images that were there are untouched.
    """
    temporary, old = (images.with_name(f".{images.name}.{state}") for state in ("new", "old"))
    try:
        _remove(temporary, old)
        temporary.mkdir(parents=True)
        yield temporary
        os.sync()
        if images.exists():
            images.rename(old)
        temporary.rename(images)
    except OSError as error:
        raise ScfsError(f"{images}: could not be written: {error.strerror or error}") from error
    finally:
        _remove(temporary, old)


def _remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def mark_complete(folder: Path, hashes: Mapping[str, bytes]) -> None:
    """Say that `folder` holds exactly these images: SHA-256 by path."""
    (folder / COMPLETE).write_text(_digest(hashes))


def _digest(hashes: Mapping[str, bytes]) -> str:
    return hashlib.sha256(b"".join(path.encode() + b"\0" + hashes[path] for path in sorted(hashes))).hexdigest()


@contextmanager
def locked(images: Path) -> Iterator[None]:
    """Hold the lock of a folder of images; others that want it wait."""
    lock = images.with_name(f".{images.name}.lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise ScfsError(f"{lock}: could not be written: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        # Closing is not enough: a process forked meanwhile has a copy of the descriptor, and with it the lock.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def ensure_images(images: Path, config: GarmentScenes, hashes: Mapping[str, bytes], manifest: Path) -> None:
    """Rebuild the images that `manifest` lists unless they are all there; several processes may ask at once.

    Args:
        hashes: SHA-256 by path, over all splits.

    Raises:
        ScfsError: a rebuilt image differs from the manifest's, or the folder cannot be written.
    """
    if _are_there(images, hashes):
        return
    with locked(images):
        if _are_there(images, hashes):
            return
        log(f"{images}: images are missing, making {len(hashes)} scenes as {manifest} lists them")
        with replacing_images(images) as folder:
            for name, split in config.splits.items():
                for file in write_split(folder, name, split, config.seed):
                    if hashes.get(file.path) != file.sha256:
                        raise ScfsError(
                            f"{manifest}: {file.path}, made anew, is not the image that is listed: "
                            f"run `scfs prepare {manifest.parent.name}` again"
                        )
            mark_complete(folder, hashes)


def _are_there(images: Path, hashes: Mapping[str, bytes]) -> bool:
    """Whether the folder is marked as whole and no file has gone since."""
    try:
        if (images / COMPLETE).read_text() != _digest(hashes):
            return False
        splits = {path.partition("/")[0] for path in hashes}
        found = {f"{split}/{file.name}" for split in splits for file in (images / split).iterdir()}
    except OSError:
        return False
    return found.issuperset(hashes)
