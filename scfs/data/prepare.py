"""The stage `prepare`: from a data set's configuration to its manifest, images and annotations."""

from pathlib import Path

from scfs.config.data import DataSet, GarmentScenes, ImageFolders
from scfs.data.annotations import Annotations
from scfs.data.folders import list_images, read_rows
from scfs.data.garments import class_names
from scfs.data.images import ImageRows
from scfs.data.manifest import ListedSplit, write_manifest
from scfs.data.scene_images import locked, mark_complete, replacing_images, write_split
from scfs.data.scenes import CANVAS
from scfs.errors import ScfsError

MANIFEST = "manifest.parquet"


def prepare(name: str, config: DataSet, folder: Path) -> None:
    """Write folder/manifest.parquet, last of all; for scenes also folder/images/ and folder/annotations/<split>.json.

    Repeating it gives the same files.

    Raises:
        ScfsError: bad settings, folders or images (see scfs.data.folders), or the disk is full.
    """
    if not config.splits:
        raise ScfsError(f"data.{name}.splits: is empty, must name at least one split")
    if isinstance(config, GarmentScenes):
        _prepare_scenes(name, config, folder)
    else:
        _prepare_folders(name, config, folder)


def _prepare_scenes(name: str, config: GarmentScenes, folder: Path) -> None:
    for split, settings in config.splits.items():
        if settings.garments[0] > settings.garments[1]:
            raise ScfsError(
                f"data.{name}.splits.{split}.garments = {list(settings.garments)}: must be [least, most], least first"
            )
    images = folder / "images"
    annotations = {
        split: Annotations(f"{name}, split {split}: garment scenes", class_names(settings.classes))
        for split, settings in config.splits.items()
    }
    with locked(images):
        with replacing_images(images) as temporary:
            listed = [_write_scenes(temporary, config, split, annotations[split]) for split in config.splits]
            rows = [item.rows for item in listed]
            mark_complete(temporary, {path: sha for row in rows for path, sha in zip(row.paths, row.hashes)})
        for split, annotation in annotations.items():
            annotation.write(folder / "annotations" / f"{split}.json")
        write_manifest(folder / MANIFEST, name, config, listed)


def _write_scenes(images: Path, config: GarmentScenes, split: str, annotations: Annotations) -> ListedSplit:
    settings = config.splits[split]
    rows = ImageRows()
    labels = []
    for file in write_split(images, split, settings, config.seed):
        rows.add(file.path, CANVAS, CANVAS, file.sha256)
        labels.append(file.scene.objects[0].label)
        annotations.add(file.path, file.scene.pixels.shape, file.scene.objects)
    if settings.garments == (1, 1):
        rows.labels = labels
    return ListedSplit(split, "images", rows, class_names(settings.classes))


def _prepare_folders(name: str, config: ImageFolders, folder: Path) -> None:
    listings = {split: list_images(Path(place)) for split, place in config.splits.items()}
    classes = next((listing.classes for listing in listings.values() if listing.classes), ())
    listed = []
    for split, listing in listings.items():
        rows, unreadable = read_rows(listing, classes, config.unreadable)
        listed.append(ListedSplit(split, str(listing.folder), rows, classes if listing.classes else (), unreadable))
    write_manifest(folder / MANIFEST, name, config, listed)
