"""Tiny archives of every official data set in their places, and the catalogue as it would be if these were published."""

import hashlib
from collections import Counter
from pathlib import Path

import pytest
import yaml
from archive_packing import picture, write
from archive_writers import SETS, VOC_NAMES, voc_xml

from scfs.config import official_sets as module
from scfs.config.base import parse
from scfs.config.data import Official
from scfs.config.official_sets import Catalogue
from scfs.data.official.parsers import LABELLED
from scfs.data.prepare import prepare

CATALOGUE = Path(module.__file__).with_name("official_sets.yaml")
IMAGENET100 = ("n02119789", "n02100735")
LABELLED_SETS = sorted(LABELLED)


def tiny_archives(name):
    """By role; VOC's with an object of each class that is not difficult, Cars' with other images for testing."""
    archives = SETS[name]()
    if name == "cars":
        images = archives["test"].members
        images.update({member: picture(500 + number) for number, member in enumerate(images)})
    if name == "voc":
        for role, names in VOC_NAMES.items():
            for image in names:
                member = f"VOCdevkit/VOC{role[-4:]}/Annotations/{image}.xml"
                archives[role].members[member] = voc_xml(role[-4:], image, "chair", "chair", "dog")
    return archives


def tiny_catalogue(folder, names=SETS, change=lambda name, archives: None):
    """Write archives to folder/<set> and give the catalogue's text with their sizes, hashes and numbers of images.

    Nothing of it can be fetched. `change` may alter an entry's archives before they are packed.
    """
    values = yaml.safe_load(CATALOGUE.read_text())
    for name in names:
        archives = tiny_archives(name)
        change(name, archives)
        paths, entry = write(archives, folder / name), values["sets"][name]
        for role, path in paths.items():
            assert path.name == entry["archives"][role]["file"]
            entry["archives"][role] = published(path)
        entry["splits"] = numbers(name, paths)
        if name == "imagenet":
            write_subset(folder, values["sets"]["imagenet100"], paths)
    return yaml.safe_dump(values)


def write_subset(folder, entry, archives):
    path = folder / "imagenet100" / entry["archives"]["class_list"]["file"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(" ".join(IMAGENET100) + "\n")
    entry["archives"]["class_list"] = published(path)
    entry["splits"] = dict(Counter(r.split for r in LABELLED["imagenet"](archives, IMAGENET100)[1]))


def published(path):
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    return {"file": path.name, "size": len(content), "md5": None, "sha256": sha256, "by_hand": "from the tests"}


def numbers(name, paths):
    if name == "voc":
        return {role: len(names) for role, names in VOC_NAMES.items()}
    if name == "coco":
        return {"train": 3, "val": 2}
    return dict(Counter(record.split for record in LABELLED[name](paths)[1]))


def install(text: str, patch: pytest.MonkeyPatch):
    """Let the package have this catalogue."""
    sets = parse(Catalogue, yaml.safe_load(text), "tiny").sets
    patch.setattr(module, "catalogue", lambda: sets)


def make(tmp_path, entry, layout="folder", name="set", **settings):
    """Prepare an entry below `tmp_path` and give its manifest."""
    config = parse(Official, {"source": "official", "entry": entry, "layout": layout, **settings}, "test")
    manifest = tmp_path / "data" / f"{name}-{layout}" / "manifest.parquet"
    prepare(name, config, manifest.parent)
    return manifest


def files(folder):
    """Content by path, of all files but those of locks."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }
