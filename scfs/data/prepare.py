"""The stage `prepare`: from a data set's configuration to its manifest, images and annotations."""

from pathlib import Path

from scfs.atomic import write_text
from scfs.config.data import Coco, DataSet, GarmentScenes, ImageFolders, ImageTable, Official, Voc
from scfs.data import voc
from scfs.data.class_list import read_class_list
from scfs.data.coco import read_coco
from scfs.data.folders import list_images, read_rows
from scfs.data.garments import class_names
from scfs.data.manifest import ListedSplit, write_manifest
from scfs.data.prepare_boxes import prepare_boxes
from scfs.data.prepare_official import prepare_labelled
from scfs.data.scene_images import locked, write_scenes
from scfs.data.tables import read_tables
from scfs.progress import log

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
        listed.append(ListedSplit(split, str(listing.folder), rows, classes if listing.classes else (), unreadable))
    _write(name, config, folder, listed)


def _prepare_coco(name: str, config: Coco, folder: Path) -> None:
    _write(name, config, folder, read_coco(config.splits))


def _prepare_voc(name: str, config: Voc, folder: Path) -> None:
    listed, texts = voc.read_voc(name, config)
    with locked(folder / "annotations"):  # against those that make missing ones again
        for file, text in texts.items():
            write_text(folder / file, text)
        _write(name, config, folder, listed)


def _write(name: str, config: ImageFolders | ImageTable | Coco | Voc, folder: Path, listed: list[ListedSplit]) -> None:
    """Write the manifest; say where a number of images is not the known one."""
    for item in listed:
        found = len(item.rows.paths)
        expected = config.images.get(item.split, found)
        if found != expected:
            log(f"warning: {item.root}: {found} images of split {item.split}, {expected} were expected")
    write_manifest(folder / MANIFEST, name, config, listed)
