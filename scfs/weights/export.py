"""The stages `convert` and `export`: a backbone in another library's format. The same input gives the same bytes."""

import io
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from scfs.config.weight_formats import FORMATS, WeightFormat, export_formats
from scfs.errors import ScfsError
from scfs.io.atomic import write_with
from scfs.io.results import sha256_of
from scfs.views.images import IMAGENET_MEAN, IMAGENET_STD
from scfs.weights.store import backbone_tensors, classifier_tensors


def export(weights: Path, format: str, encoder: str, out: Path) -> None:
    """Write one encoder's backbone to `out`, with the classifier if the file has one and the library a place for it.

    Args:
        weights: a file of weights of ours.
        format: name of a format that can be exported (scfs.config.weight_formats).
        encoder: "teacher" or "student".
        out: file to write.

    Raises:
        ScfsError: the file lacks the encoder, a tensor of it or a part of one, a number is not finite, or the format
            does not have the architecture.
    """
    found, backbone, about = backbone_tensors(weights, encoder)
    allowed = export_formats(backbone)
    names = FORMATS[format].name_map(backbone) if format in allowed else None
    if names is None:
        raise ScfsError(f"{weights}: {backbone} cannot be written as {format!r}: allowed are {allowed}")
    tensors = {names(key): tensor for key, tensor in found.items()}
    if names.classifier:
        for key, tensor in classifier_tensors(weights, encoder).items():
            tensors[key.replace("classifier", names.classifier)] = tensor
    facts = {
        "run": about.run,
        "identity": about.identity,
        "encoder": encoder,
        "library": "scfs" if FORMATS[format].names is None else format,
        "architecture": names.architectures[backbone],
        "mean": IMAGENET_MEAN,
        "std": IMAGENET_STD,
        "scfs": version("scfs"),
    }
    content = _content(FORMATS[format], dict(sorted(tensors.items())), facts, weights)
    write_with(out, lambda file: file.write(content))


def _content(format: WeightFormat, tensors: dict[str, Tensor], facts: dict[str, Any], weights: Path) -> bytes:
    """Return the bytes of the file."""
    if format.file == "torch":
        buffer = io.BytesIO()  # not the file itself: its name would stand in it
        torch.save(tensors, buffer)
        return buffer.getvalue()
    if format.file == "safetensors":
        # One key holds all facts in order: safetensors writes several keys in an order that differs by process.
        return save(tensors, metadata={"scfs_export": json.dumps(facts, sort_keys=True)})
    return format.file(tensors, {**facts, "weights_sha256": sha256_of(weights)})
