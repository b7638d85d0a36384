"""A data set in COCO's format and a VOC devkit, both of a few tiny images, written by hand."""

import copy
import json
import os
import signal
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from scfs.config.base import Config
from scfs.data.prepare import prepare
from scfs.data.sources import voc

CROWD = {"size": [10, 20], "counts": [0, 10, 190]}
"""The first column of an image of 20 x 10 pixels."""
CONTENT: dict[str, Any] = {
    "info": {"description": "by hand"},
    "licenses": [],
    "images": [
        {"id": 30, "file_name": "z.png", "width": 20, "height": 10, "license": 1},
        {"id": 7, "file_name": "deep/a.jpg", "width": 16, "height": 12},
        {"id": 8, "file_name": "empty.jpg", "width": 9, "height": 8},
    ],
    "annotations": [
        {"id": 5, "image_id": 30, "category_id": 18, "iscrowd": 0, "bbox": [2.5, 1, 10, 8.25], "area": 41.25,
         "segmentation": [[2.5, 1, 12.5, 1, 2.5, 9.25]]},
        {"id": 9, "image_id": 7, "category_id": 3, "iscrowd": 0, "bbox": [0, 0, 16, 12], "area": 192,
         "segmentation": [[0, 0, 16, 0, 16, 12, 0, 12]]},
        {"id": 4, "image_id": 30, "category_id": 3, "iscrowd": 1, "bbox": [0, 0, 1, 10], "area": 10,
         "segmentation": CROWD},
    ],
    "categories": [{"id": 18, "name": "dog", "supercategory": "animal"}, {"id": 3, "name": "cat"}],
}  # fmt: skip


def write_image(path: Path, width: int, height: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def write_coco(folder: Path, split: str = "train", change: Callable[[dict[str, Any]], object] | None = None) -> Config:
    """Write folder/<split>.json and folder/<split>/; `change` alters the content first. The split's settings."""
    from scfs.config.data import CocoSplit

    content = copy.deepcopy(CONTENT)
    for image in content["images"]:
        write_image(folder / split / image["file_name"], image["width"], image["height"])
    if change:
        change(content)
    (folder / f"{split}.json").write_text(json.dumps(content))
    return CocoSplit(images=str(folder / split), annotations=str(folder / f"{split}.json"))


Objects = Sequence[tuple[str, Sequence[float], str | None]]
"""Name, xmin to ymax, and `difficult` of each."""


def write_voc(devkit: Path, split: str, images: dict[str, tuple[tuple[int, int], Objects]]) -> Path:
    """Write images and annotations, by name, and the list ImageSets/Main/<split>.txt, which is returned."""
    for name, ((width, height), objects) in images.items():
        write_image(devkit / "JPEGImages" / f"{name}.jpg", width, height)
        (devkit / "Annotations").mkdir(exist_ok=True)
        (devkit / "Annotations" / f"{name}.xml").write_text(xml(name, width, height, objects))
    file = devkit / "ImageSets" / "Main" / f"{split}.txt"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{name}\n" for name in images))
    return file


def xml(name: str, width: int, height: int, objects: Objects) -> str:
    """As VOC's files are: a person's head is a part with a name and a box of its own."""
    lines = [f"<annotation><folder>VOC2007</folder><filename>{name}.jpg</filename>"]
    lines.append(f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>")
    for label, (xmin, ymin, xmax, ymax), difficult in objects:
        lines += [f"<object><name>{label}</name><pose>Unspecified</pose>"]
        lines += [] if difficult is None else [f"<difficult>{difficult}</difficult>"]
        lines += [f"<bndbox><xmax>{xmax}</xmax><xmin>{xmin}</xmin><ymin>{ymin}</ymin><ymax>{ymax}</ymax></bndbox>"]
        if label == "person":
            lines += [
                "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox>"
            ]
            lines += ["</part>"]
        lines += ["</object>"]
    return "\n".join([*lines, "</annotation>"])


def files(folder: Path) -> dict[str, bytes]:
    """Content of all files below a folder, without locks."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def prepare_and_die(name: str, config: Config, folder: Path, before: str) -> None:
    """`prepare` in a process that is killed when it calls the named function, of the module that writes for both."""
    process = get_context("fork").Process(target=_die, args=(name, config, folder, before))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


def _die(name: str, config: Any, folder: Path, before: str) -> None:
    patch = pytest.MonkeyPatch()
    patch.setattr(voc, before, lambda *arguments: os.kill(os.getpid(), signal.SIGKILL))
    prepare(name, config, folder)
