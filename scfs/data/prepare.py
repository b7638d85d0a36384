"""The stage `prepare`: from a data set's configuration to its manifest, images and annotations."""

from pathlib import Path

from scfs.config.data import DataSet, GarmentScenes, ImageFolders
from scfs.data.class_list import read_class_list
from scfs.data.folders import list_images, read_rows
from scfs.data.garments import class_names
from scfs.data.manifest import ListedSplit, write_manifest
from scfs.data.scene_images import locked, write_scenes
from scfs.progress import log

MANIFEST = "manifest.parquet"


def prepare(name: str, config: DataSet, folder: Path) -> None:
    """Write folder/manifest.parquet, last of all; for scenes also folder/images/ and folder/annotations/<split>.json.

    Repeating it gives the same files.

    Raises:
        ScfsError: bad folders, images or class list (see scfs.data.folders, class_list), or the disk is full.
    """
    if isinstance(config, GarmentScenes):
        _prepare_scenes(name, config, folder)
    else:
        _prepare_folders(name, config, folder)


def _prepare_scenes(name: str, config: GarmentScenes, folder: Path) -> None:
    images = folder / "images"
    with locked(images):
        listed = [
            ListedSplit(split, images.name, rows, class_names(config.splits[split].classes))
            for split, rows in write_scenes(images, name, config).items()
        ]
        write_manifest(folder / MANIFEST, name, config, listed)


def _prepare_folders(name: str, config: ImageFolders, folder: Path) -> None:
    only = read_class_list(config.class_list) if config.class_list else None
    listings = {split: list_images(Path(place), only) for split, place in config.splits.items()}
    classes = next((listing.classes for listing in listings.values() if listing.classes), ())
    listed = []
    for split, listing in listings.items():
        rows, unreadable = read_rows(listing, classes, config.unreadable)
        expected = config.images.get(split, len(rows.paths))
        if len(rows.paths) != expected:
            log(f"warning: {listing.folder}: {len(rows.paths)} images of split {split}, {expected} were expected")
        listed.append(ListedSplit(split, str(listing.folder), rows, classes if listing.classes else (), unreadable))
    write_manifest(folder / MANIFEST, name, config, listed)
