"""Stand-ins for what `scfs smoke` cannot wait for: images of noise, with boxes too, and lists, weights of others."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scfs.config.data import SMALL_CLASSES, Coco, ImageFolders, PublishedList, Voc
from scfs.config.data_source import SMALL_IMAGES
from scfs.config.pretrain import Imported, Pretrain, ProjectionHead, SearchHead
from scfs.config.study import Study
from scfs.config.weight_formats import FORMATS
from scfs.data.coco_rle import encode_mask
from scfs.io.templates import filled_in

STAND_INS = "stand-ins"
"""Folder of files that take the place of weights."""
UNLISTED = "class-unlisted"
"""A sub-folder that a class list leaves out."""
HEIGHT, WIDTH = 72, 96
"""Pixels of an image."""
LEAST = 16
"""Pixels of the shortest side of a box."""
VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
"""PASCAL VOC's, for a data set that leaves its classes to its annotations."""
COCO_CATEGORIES = {1: "person", 18: "dog", 90: "toothbrush"}
"""Some of COCO's, with their ids, which have gaps."""
SMALL_HEADS = {
    "head": {"hidden": 16, "bottleneck": 8, "prototypes": 16},
    "search_head": {"width": 8, "hidden": 16, "output": 8},
}

Box = list[int]
"""Borders of an object in pixels: left, top, right, bottom; 0-based, the last two not included."""


def write_stand_ins(folder: Path, study: Study) -> None:
    """Write all that a rehearsal's study names: images, their lists and boxes (see `DataSource.small`), and weights."""
    labelled = _labelled(study)
    for name, data in study.data.items():
        for split, places in data.splits.items():
            if isinstance(data, Coco):
                write_images(folder / places.images, f"{name}/{split}")
                write_coco(folder / places.annotations, f"{name}/{split}")
            elif isinstance(data, Voc):
                write_devkits([folder / file for file in places], f"{name}/{split}", data.classes or VOC_CLASSES)
            elif isinstance(data, ImageFolders):
                write_images(folder / places, f"{name}/{split}", name in labelled, unlisted=data.class_list is not None)
    lists = [getattr(data, "class_list", None) for data in study.data.values()]
    lists += [getattr(protocol, "labels", None) for protocol in study.evaluate.values()]
    for published in lists:
        if isinstance(published, PublishedList):
            (folder / published.file).write_text(published.small_text)
    for imported in filter(None, map(study.imported, study.runs)):
        write_weights(folder / imported.weights, str(imported.format), imported.backbone)
    for settings in map(study.settings, study.runs):
        if isinstance(settings, Pretrain) and settings.init and Path(settings.init).parent == Path(STAND_INS):
            write_weights(folder / settings.init, "safetensors", settings.backbone)


def _labelled(study: Study) -> set[str]:
    """Find the data sets whose labels somebody needs, or that have a class list; the others are flat folders."""
    evaluated = {protocol.dataset for protocol in study.evaluate.values()}
    listed = {name for name, data in study.data.items() if isinstance(data, ImageFolders) and data.class_list}
    runs = map(study.settings, study.runs)
    return evaluated | listed | {run.dataset for run in runs if isinstance(run, Pretrain) and run.learns_from_labels}


def _generator(seed: str) -> np.random.Generator:
    return np.random.default_rng(list(seed.encode()))


def write_images(folder: Path, seed: str, labelled: bool = False, unlisted: bool = False) -> None:
    """Write noise, the same for the same seed; one more class, of one image, if there is a list to leave it out."""
    generator = _generator(seed)
    classes = [SMALL_CLASSES[number % len(SMALL_CLASSES)] if labelled else "" for number in range(SMALL_IMAGES)]
    for number, name in enumerate([*classes, *([UNLISTED] if labelled and unlisted else [])]):
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        Image.fromarray(pixels).save(place / f"{number}.jpg")


def _boxes(seed: str, classes: Sequence[str]) -> Iterator[list[tuple[str, Box]]]:
    """Draw the objects of each image: at least one, and over all images at least one of each class."""
    generator, size = _generator(seed), np.array([WIDTH, HEIGHT])
    for number in range(SMALL_IMAGES):
        found = []
        for name in classes[number::SMALL_IMAGES] or (classes[number % len(classes)],):
            corner = generator.integers(0, size - LEAST)
            end = generator.integers(corner + LEAST, size + 1)
            found.append((name, [*corner.tolist(), *end.tolist()]))
        yield found


def write_coco(path: Path, seed: str) -> None:
    """Write instances of images 0.jpg, ...: a diamond in each box as its mask, and a crowd in the first image."""
    ids = {name: number for number, name in COCO_CATEGORIES.items()}
    images, objects = [], []
    for image_id, found in enumerate(_boxes(seed, tuple(ids)), start=1):
        images.append({"id": image_id, "file_name": f"{image_id - 1}.jpg", "width": WIDTH, "height": HEIGHT})
        objects += [{"image_id": image_id, "category_id": ids[name], **_diamond(*box)} for name, box in found]
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[:LEAST, :LEAST] = True
    crowd = {"bbox": [0, 0, LEAST, LEAST], "area": LEAST**2, "iscrowd": 1, "segmentation": encode_mask(mask)}
    objects.append({"image_id": 1, "category_id": min(COCO_CATEGORIES), **crowd})
    content = {
        "info": {"description": "a stand-in"},
        "categories": [{"id": number, "name": name} for number, name in COCO_CATEGORIES.items()],
        "images": images,
        "annotations": [{"id": number, **item} for number, item in enumerate(objects, start=1)],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def _diamond(left: int, top: int, right: int, bottom: int) -> dict[str, Any]:
    x, y, width, height = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
    size = {"bbox": [left, top, width, height], "area": width * height / 2}
    return {**size, "iscrowd": 0, "segmentation": [[left, y, x, top, right, y, x, bottom]]}


def write_devkits(lists: Sequence[Path], seed: str, classes: Sequence[str]) -> None:
    """Write a devkit for each list of a split; together the lists name `SMALL_IMAGES` images."""
    found, annotation = list(_boxes(seed, classes)), Path(__file__).with_name("voc_annotation.xml.j2")
    for number, file in enumerate(lists):
        devkit, images = file.parents[2], range(number, SMALL_IMAGES, len(lists))
        write_images(devkit / "JPEGImages", f"{seed}/{number}")
        (devkit / "Annotations").mkdir()
        for image in images:
            text = filled_in(annotation, image=image, width=WIDTH, height=HEIGHT, objects=found[image])
            (devkit / "Annotations" / f"{image}.xml").write_text(text)
        file.parent.mkdir(parents=True)
        file.write_text("".join(f"{image}\n" for image in images))


def stand_in_weights(run: str, imported: Imported) -> dict[str, str]:
    """Name the file that takes the place of an imported run's weights, and its format: the same."""
    from scfs.weights.catalogue import entry_named

    format = str(imported.format or entry_named(imported.weights).format)
    return {"weights": f"{STAND_INS}/{run}.{'safetensors' if format == 'safetensors' else 'pth'}", "format": format}


def write_weights(path: Path, format: str, backbone: str) -> None:
    """Write random weights of a backbone as others would publish them."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    layout = FORMATS[format]
    content: Any = _backbone(format, backbone) if layout.flat else {key: _encoder(backbone) for key in layout.encoders}
    path.parent.mkdir(parents=True, exist_ok=True)
    if format == "safetensors":
        save_file(content, path)
    else:
        torch.save(content, path)


def _backbone(format: str, backbone: str) -> dict[str, Any]:
    """Make a backbone in a library's names, with a classifier where the format has one."""
    import torch

    from scfs.model.backbones.registry import build_backbone

    layout, model = FORMATS[format], build_backbone(backbone)
    names = layout.name_map(backbone)
    assert names is not None  # the study was checked
    tensors = {names(key): tensor for key, tensor in model.state_dict().items()}
    if layout.classifier:
        outputs = torch.nn.Linear(model.channels["layer4"], len(SMALL_CLASSES)).state_dict()
        tensors |= {f"{names.classifier}.{key}": tensor for key, tensor in outputs.items()}
    return tensors


def _encoder(backbone: str) -> dict[str, Any]:
    """Make an encoder of the authors' checkpoints, with small heads."""
    from scfs.model import heads
    from scfs.model.backbones.registry import build_backbone

    layout, model = FORMATS["official"], build_backbone(backbone)
    tensors = {f"{layout.prefix}{key}": tensor for key, tensor in model.state_dict().items()}
    for name in layout.heads:
        layer = name.removesuffix("_head")
        head = (
            heads.ProjectionHead(model.channels["layer4"], ProjectionHead(**SMALL_HEADS["head"]))
            if name == "head"
            else heads.SearchHead(model.channels[layer], SearchHead(**SMALL_HEADS["search_head"]))
        )
        tensors |= {f"{name}.{key}": tensor for key, tensor in head.state_dict().items()}
    return tensors
