"""Image files and annotations of the garment scenes: made together, and made again when they are missing.

They are not a declared output of any stage: the manifest is, and it holds all that is needed to rebuild them. The
images appear as a whole folder; annotations are removed before it and written after it, so that those that are there
belong to the images beside them.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from scfs.config.base import parse
from scfs.config.data import GarmentScenes, SceneSplit
from scfs.data import png
from scfs.data.image_set import ImageRows, ImageSet
from scfs.data.manifest import MANIFEST, ManifestSplit, write_manifest
from scfs.data.scenes.annotations import Annotations
from scfs.data.scenes.compose import CANVAS, Scene, compose
from scfs.data.scenes.fashion_mnist import class_names
from scfs.data.sources.registry import PREPARE, RESTORE
from scfs.errors import ScfsError
from scfs.io.atomic import replacing_folder
from scfs.io.locks import folder_lock
from scfs.io.progress import log, track

IMAGES = "images"
COMPLETE = ".complete"
"""File within the images' folder that holds the digest of all of them."""


class SceneFile(NamedTuple):
    """A scene and its image file."""

    path: str
    """Relative to the images' folder."""
    content: bytes
    sha256: bytes
    scene: Scene


@PREPARE.add("garment-scenes")
def prepare_scenes(name: str, config: GarmentScenes, folder: Path) -> None:
    """Make images, annotations and manifest.

    Raises:
        ScfsError: the disk is full or the folder cannot be written.
    """
    images = folder / IMAGES
    with folder_lock(images):
        listed = [
            ManifestSplit(split, images.name, rows, class_names(config.splits[split].classes))
            for split, rows in write_scenes(images, name, config).items()
        ]
        write_manifest(folder / MANIFEST, name, config, listed)


Check = Callable[[SceneFile], None]
"""Function that raises if a scene is not the one that it should be."""


def _scene_files(name: str, split: SceneSplit, seed: int) -> Iterator[SceneFile]:
    """Compose the scenes of a split, one by one."""
    for index in track(range(split.scenes), f"scenes: {name}", "images"):
        scene = compose(split, name, seed, index)
        content = png.encode_grey(scene.pixels)
        yield SceneFile(f"{name}/{index:06d}.png", content, hashlib.sha256(content).digest(), scene)


def write_scenes(images: Path, name: str, config: GarmentScenes, check: Check | None = None) -> dict[str, ImageRows]:
    """Replace the images and the annotations beside them; the caller holds the lock of `images`.

    Args:
        images: folder of the images.
        name: data set.
        check: looks at each scene before its image is written.

    Returns:
        Rows by split, with labels where every scene has one garment.

    Raises:
        ScfsError: the disk is full or the folder cannot be written; images that were there are untouched.
    """
    rows, annotations = {split: ImageRows() for split in config.splits}, _annotations(name, config)
    with replacing_folder(images) as temporary:
        for split, settings in config.splits.items():
            labels = []
            (temporary / split).mkdir()
            for file in _scene_files(split, settings, config.seed):
                if check:
                    check(file)
                (temporary / file.path).write_bytes(file.content)
                rows[split].add(file.path, CANVAS, CANVAS, file.sha256)
                labels.append(file.scene.objects[0].label)
                annotations[split].add(file.path, file.scene.pixels.shape, file.scene.objects)
            if settings.garments == (1, 1):
                rows[split].labels = labels
        hashes = {path: sha256 for part in rows.values() for path, sha256 in zip(part.paths, part.hashes)}
        (temporary / COMPLETE).write_text(_digest(hashes))
        for split in annotations:
            _annotation_file(images, split).unlink(missing_ok=True)
    for split, annotation in annotations.items():
        annotation.write(_annotation_file(images, split))
    return rows


def _write_annotations(images: Path, name: str, config: GarmentScenes, check: Check) -> None:
    """Write the annotations anew beside images that are there."""
    for split, annotation in _annotations(name, config).items():
        for file in _scene_files(split, config.splits[split], config.seed):
            check(file)
            annotation.add(file.path, file.scene.pixels.shape, file.scene.objects)
        annotation.write(_annotation_file(images, split))


def _annotations(name: str, config: GarmentScenes) -> dict[str, Annotations]:
    return {
        split: Annotations(f"{name}, split {split}: garment scenes", class_names(settings.classes))
        for split, settings in config.splits.items()
    }


def _annotation_file(images: Path, split: str) -> Path:
    return images.with_name("annotations") / f"{split}.json"


def _digest(hashes: Mapping[str, bytes]) -> str:
    return hashlib.sha256(b"".join(path.encode() + b"\0" + hashes[path] for path in sorted(hashes))).hexdigest()


@RESTORE.add("garment-scenes")
def restore_scenes(manifest: Path, split: ImageSet, table: pa.Table, about: Mapping[str, Any]) -> None:
    """Make again what is missing of images and annotations of all splits; several processes may ask at once.

    Args:
        manifest: of the data set.
        split: any of its splits.
        table: the manifest's table.
        about: the manifest's metadata.

    Raises:
        ScfsError: a rebuilt image differs from the manifest's, or the folder cannot be written.
    """
    images, name = split.root, about["name"]
    config: GarmentScenes = parse(GarmentScenes, about["config"], f"{manifest}")
    hashes: dict[str, bytes] = dict(zip(table["path"].to_pylist(), table["sha256"].to_pylist(), strict=True))

    def check(file: SceneFile) -> None:
        if hashes.get(file.path) != file.sha256:
            raise ScfsError(
                f"{manifest}: {file.path}, made anew, is not the image that is listed: "
                f"run `scfs prepare {manifest.parent.name}` again"
            )

    if _are_there(images, hashes) and _are_annotated(images, config):
        return
    with folder_lock(images):
        if not _are_there(images, hashes):
            log(f"{images}: images are missing, making {len(hashes)} scenes as {manifest} lists them")
            write_scenes(images, name, config, check)
        elif not _are_annotated(images, config):
            log(f"{images}: their annotations are missing, making them as for {manifest}")
            _write_annotations(images, name, config, check)


def _are_annotated(images: Path, config: GarmentScenes) -> bool:
    return all(_annotation_file(images, split).is_file() for split in config.splits)


def _are_there(images: Path, hashes: Mapping[str, bytes]) -> bool:
    """True if the folder is marked as whole and no file has gone since."""
    try:
        if (images / COMPLETE).read_text() != _digest(hashes):
            return False
        splits = {path.partition("/")[0] for path in hashes}
        found = {f"{split}/{file.name}" for split in splits for file in (images / split).iterdir()}
    except OSError:
        return False
    return found.issuperset(hashes)
