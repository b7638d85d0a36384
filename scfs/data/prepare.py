"""The stage `prepare`: from a data set's configuration to its manifest, images and annotations."""

from pathlib import Path

from scfs.config.data import Coco, DataSet, GarmentScenes, ImageFolders, ImageTable, Official, Voc
from scfs.data.manifest import ManifestSplit, write_manifest
from scfs.data.official.prepare_boxes import prepare_boxes
from scfs.data.official.prepare_labelled import prepare_labelled
from scfs.data.scenes.fashion_mnist import class_names
from scfs.data.scenes.files import write_scenes
from scfs.data.sources import voc
from scfs.data.sources.coco import read_coco
from scfs.data.sources.folders import list_images, read_rows
from scfs.data.sources.published_lists import read_class_list
from scfs.data.sources.tables import read_tables
from scfs.io.atomic import write_text
from scfs.io.locks import folder_lock
from scfs.io.progress import log

MANIFEST = "manifest.parquet"


def prepare(name: str, config: DataSet, folder: Path) -> None:
    """Write folder/manifest.parquet, last of all; before it, for scenes and VOC, folder/annotations/<split>.json, for
    scenes folder/images/, and for official archives what scfs.data.prepare_official and prepare_boxes name.

    Repeating it gives the same files.

    Raises:
        ScfsError: bad folders, images, annotations, archives or class list (see scfs.data.folders, tables, coco, voc,
            prepare_official, prepare_boxes, class_list), or the disk is full.
    """
    match config:
        case GarmentScenes():
            _prepare_scenes(name, config, folder)
        case ImageFolders():
            _prepare_folders(name, config, folder)
        case ImageTable():
            _write(name, config, folder, read_tables(config))
        case Coco():
            _prepare_coco(name, config, folder)
        case Voc():
            _prepare_voc(name, config, folder)
        case Official(has_boxes=True):
            prepare_boxes(name, config, folder, folder / MANIFEST)
        case Official():
            prepare_labelled(name, config, folder, folder / MANIFEST)


def _prepare_scenes(name: str, config: GarmentScenes, folder: Path) -> None:
    images = folder / "images"
    with folder_lock(images):
        listed = [
            ManifestSplit(split, images.name, rows, class_names(config.splits[split].classes))
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
        listed.append(ManifestSplit(split, str(listing.folder), rows, classes if listing.classes else (), unreadable))
    _write(name, config, folder, listed)


def _prepare_coco(name: str, config: Coco, folder: Path) -> None:
    _write(name, config, folder, read_coco(config.splits))


def _prepare_voc(name: str, config: Voc, folder: Path) -> None:
    listed, texts = voc.read_voc(name, config)
    with folder_lock(folder / "annotations"):  # against those that make missing ones again
        for file, text in texts.items():
            write_text(folder / file, text)
        _write(name, config, folder, listed)


def _write(
    name: str, config: ImageFolders | ImageTable | Coco | Voc, folder: Path, listed: list[ManifestSplit]
) -> None:
    """Write the manifest; say where a number of images is not the known one."""
    for item in listed:
        found = len(item.rows.paths)
        expected = config.images.get(item.split, found)
        if found != expected:
            log(f"warning: {item.root}: {found} images of split {item.split}, {expected} were expected")
    write_manifest(folder / MANIFEST, name, config, listed)
