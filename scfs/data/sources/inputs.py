"""What a data set is made from: files and folders of the user's own, whose times tell whether its manifest is stale."""

import os
from pathlib import Path

from scfs.config.data import Coco, DataSet, GarmentScenes, ImageFolders, ImageTable, Official, Voc


def source_paths(config: DataSet) -> list[Path]:
    """Folders of images and their sub-folders, and files of annotations; only those that are there.

    A file that is added to one of the folders, removed or renamed changes the folder's time. Not so a file that is
    overwritten in place, or anything further down.
    """
    match config:
        case GarmentScenes() | Official():  # archives are told by their hashes in the catalogue
            return []
        case ImageFolders():
            return [path for folder in config.splits.values() for path in _folders(Path(folder))]
        case ImageTable():
            return list(filter(Path.is_file, map(Path, config.splits.values())))
        case Coco():
            files = [Path(split.annotations) for split in config.splits.values()]
            folders = (path for split in config.splits.values() for path in _folders(Path(split.images)))
            return [*filter(Path.is_file, files), *folders]
        case Voc():
            return list(filter(Path.is_file, (Path(file) for files in config.splits.values() for file in files)))


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:  # which asks for no file's kind one by one: there may be a hundred thousand
        return [folder, *sorted(Path(entry.path) for entry in entries if entry.is_dir())]
