"""Image files and annotations of scenes: made together, and made again when they are missing.

They are not a declared output of any stage: the manifest is, and it holds all that is needed to rebuild them. The
images appear as a whole folder; annotations are removed before it and written after it, so that those that are there
belong to the images beside them.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from scfs.config.base import parse
from scfs.config.scenes import GarmentScenes, PhotoScenes, PhotoSceneSplit, SceneSplit
from scfs.data import png
from scfs.data.coco_rle import encode_mask
from scfs.data.coco_writer import AnnotatedImage, coco_text
from scfs.data.image_set import ROWS, ImageSet
from scfs.data.manifest import MANIFEST, ManifestSplit, write_manifest
from scfs.data.scenes.compose import CANVAS, Scene, SceneObject, compose
from scfs.data.scenes.fashion_mnist import class_names
from scfs.data.scenes.photographs import compose as compose_photographs
from scfs.data.scenes.photographs import photographs
from scfs.data.sources.registry import PREPARE, RESTORE
from scfs.errors import ScfsError
from scfs.io.atomic import replacing_folder, write_text
from scfs.io.locks import folder_lock
from scfs.io.progress import log, track

Scenes = GarmentScenes | PhotoScenes
Split = SceneSplit | PhotoSceneSplit

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

    @property
    def annotated(self) -> AnnotatedImage:
        """The image with its objects; one that is wholly hidden is left out."""
        return self.path, CANVAS, CANVAS, [annotation(item) for item in self.scene.objects if item.mask.any()]


def annotation(item: SceneObject) -> dict[str, Any]:
    """Describe an object that can be seen, for `scfs.data.coco_writer.coco_text`."""
    rows, columns = np.flatnonzero(item.mask.any(axis=1)), np.flatnonzero(item.mask.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    return {
        "category_id": item.label + 1,
        "iscrowd": 0,
        "bbox": [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
        "area": int(item.mask.sum()),
        "segmentation": encode_mask(item.mask),
    }


@PREPARE.add("photo-scenes")
@PREPARE.add("garment-scenes")
def prepare_scenes(name: str, config: Scenes, folder: Path) -> None:
    """Make images, annotations and manifest.

    Raises:
        ScfsError: the disk is full or the folder cannot be written.
    """
    images = folder / IMAGES
    with folder_lock(images):
        listed = [
            ManifestSplit(split, images.name, rows, classes_of(config.splits[split]))
            for split, rows in write_scenes(images, name, config).items()
        ]
        write_manifest(folder / MANIFEST, name, config, listed)


def classes_of(split: Split) -> tuple[str, ...]:
    """List the names of a split's classes.

    Raises:
        ScfsError: see `photographs`.
    """
    return class_names(split.classes) if isinstance(split, SceneSplit) else photographs(split).classes


def _maker(split: Split, name: str, seed: int) -> Callable[[int], Scene]:
    """Return the function that composes a split's scenes by their index."""
    if isinstance(split, SceneSplit):
        return partial(compose, split, name, seed)
    return partial(compose_photographs, split, photographs(split), name, seed)


def _has_one_object(split: Split) -> bool:
    """True if every scene has one object, whose class is the scene's."""
    return (split.garments if isinstance(split, SceneSplit) else split.objects) == (1, 1)


Check = Callable[[SceneFile], None]
"""Function that raises if a scene is not the one that it should be."""


def _scene_files(split: str, config: Scenes, check: Check) -> Iterator[SceneFile]:
    """Compose and check the scenes of a split, one by one."""
    settings = config.splits[split]
    make = _maker(settings, split, config.seed)
    for index in track(range(settings.scenes), f"scenes: {split}", "images"):
        scene = make(index)
        content = png.encode(scene.pixels)
        file = SceneFile(f"{split}/{index:06d}.png", content, hashlib.sha256(content).digest(), scene)
        check(file)
        yield file


def write_scenes(images: Path, name: str, config: Scenes, check: Check = lambda file: None) -> dict[str, pa.Table]:
    """Replace the images and the annotations beside them; the caller holds the lock of `images`.

    Args:
        images: folder of the images.
        name: data set.
        config: its settings.
        check: looks at each scene before its image is written.

    Returns:
        Rows by split, with labels where every scene has one garment.

    Raises:
        ScfsError: the disk is full or the folder cannot be written; images that were there are untouched.
    """
    rows: dict[str, pa.Table] = {}
    annotated: dict[str, list[AnnotatedImage]] = {}
    with replacing_folder(images) as temporary:
        for split, settings in config.splits.items():
            found, annotated[split] = [], []
            (temporary / split).mkdir()
            for file in _scene_files(split, config, check):
                (temporary / file.path).write_bytes(file.content)
                label = file.scene.objects[0].label if _has_one_object(settings) else None
                row = {"path": file.path, "width": CANVAS, "height": CANVAS, "label": label, "sha256": file.sha256}
                found.append(row)
                annotated[split].append(file.annotated)
            rows[split] = pa.Table.from_pylist(found, ROWS)
        hashes = {row["path"]: row["sha256"] for table in rows.values() for row in table.to_pylist()}
        (temporary / COMPLETE).write_text(_digest(hashes))
        for split in annotated:
            _annotation_file(images, split).unlink(missing_ok=True)
    _write_annotations(images, name, config, annotated)
    return rows


def _write_annotations(
    images: Path, name: str, config: Scenes, annotated: Mapping[str, Iterable[AnnotatedImage]]
) -> None:
    """Write the annotations of each split beside the images."""
    for split, entries in annotated.items():
        description, classes = (
            f"{name}, split {split}: {config.source.replace('-', ' ')}",
            classes_of(config.splits[split]),
        )
        write_text(_annotation_file(images, split), coco_text(description, classes, entries))


def _annotation_file(images: Path, split: str) -> Path:
    return images.with_name("annotations") / f"{split}.json"


def _digest(hashes: Mapping[str, bytes]) -> str:
    return hashlib.sha256(b"".join(path.encode() + b"\0" + hashes[path] for path in sorted(hashes))).hexdigest()


@RESTORE.add("photo-scenes")
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
    kind: type[Scenes] = GarmentScenes if about["source"] == "garment-scenes" else PhotoScenes
    config = parse(kind, about["config"], f"{manifest}")
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
            found = {split: (file.annotated for file in _scene_files(split, config, check)) for split in config.splits}
            _write_annotations(images, name, config, found)


def _are_annotated(images: Path, config: Scenes) -> bool:
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
