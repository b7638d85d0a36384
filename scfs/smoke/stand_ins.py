"""Stand-ins for what `scfs smoke` cannot wait for: images of noise, class lists, random weights in others' formats."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scfs.config.data import SMALL_CLASS_LIST, SMALL_CLASSES, SMALL_IMAGES

LABELLED = "".join(f"{number}.jpg\n" for number in range(SMALL_IMAGES))
UNLISTED = "class-unlisted"
"""A sub-folder that a class list leaves out."""
HEIGHT, WIDTH = 72, 96
"""Pixels of an image."""


def labelled_files(evaluation: str) -> dict[str, str]:
    """Name the place of a stand-in for a list of labelled images, and its hash: the names that `write_images` gives."""
    return {"file": f"datasets/{evaluation}.txt", "sha256": hashlib.sha256(LABELLED.encode()).hexdigest()}


def stand_in_format(run: Mapping[str, Any]) -> str:
    """Find the format of an imported run's weights: its own, or the catalogue's."""
    from scfs.weights.catalogue import entry_named

    return str(run.get("format") or entry_named(run["weights"]).format)


def write_stand_ins(folder: Path, values: Mapping[str, Any], labelled: set[str]) -> None:
    """Write all that a rehearsal's file names: folders of images, class lists, weights.

    Args:
        folder: folder of the rehearsal.
        values: the file's content.
        labelled: data sets with sub-folders for classes; the others are flat.
    """
    for name, data in values.get("data", {}).items():
        if data["source"] != "folder":
            continue
        for split, place in data["splits"].items():
            write_images(folder / place, f"{name}/{split}", name in labelled, "class_list" in data)
        if "class_list" in data:
            (folder / data["class_list"]["file"]).write_text(SMALL_CLASS_LIST)
    for protocol in values.get("evaluate", {}).values():
        if "file" in (protocol.get("labels") or {}):
            (folder / protocol["labels"]["file"]).write_text(LABELLED)
    for run in values.get("runs", {}).values():
        if "weights" in run:
            write_weights(folder / run["weights"], run["format"], run["backbone"])


def write_images(folder: Path, seed: str, labelled: bool, unlisted: bool) -> None:
    """Write noise, the same for the same seed; one more class, of one image, if there is a list to leave it out."""
    generator = np.random.default_rng(int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "little"))
    classes = [SMALL_CLASSES[number % len(SMALL_CLASSES)] if labelled else "" for number in range(SMALL_IMAGES)]
    for number, name in enumerate([*classes, *([UNLISTED] if labelled and unlisted else [])]):
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        Image.fromarray(pixels).save(place / f"{number}.jpg")


def write_weights(path: Path, format: str, backbone: str) -> None:
    """Write random weights of a backbone as others would publish them."""
    import torch
    from safetensors.torch import save_file

    from scfs.config.weight_formats import FORMATS

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

    from scfs.config.weight_formats import FORMATS
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
    from scfs.config.pretrain import ProjectionHead, SearchHead
    from scfs.config.weight_formats import FORMATS
    from scfs.model import heads
    from scfs.model.backbones.registry import build_backbone

    layout, model = FORMATS["official"], build_backbone(backbone)
    tensors = {f"{layout.prefix}{key}": tensor for key, tensor in model.state_dict().items()}
    for name in layout.heads:
        layer = name.removesuffix("_head")
        head = (
            heads.ProjectionHead(model.channels["layer4"], ProjectionHead(hidden=16, bottleneck=8, prototypes=16))
            if name == "head"
            else heads.SearchHead(model.channels[layer], SearchHead(width=8, hidden=16, output=8))
        )
        tensors |= {f"{name}.{key}": tensor for key, tensor in head.state_dict().items()}
    return tensors
