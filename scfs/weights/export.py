"""The stage `convert`: a run's weights in the names of other libraries. The same input gives the same bytes."""

import io
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from scfs import __version__
from scfs.errors import ScfsError
from scfs.io.atomic import write_with
from scfs.io.results import sha256_of
from scfs.views.images import IMAGENET_MEAN, IMAGENET_STD
from scfs.weights.keys import OPTIONAL, export_formats, names_in, renamed
from scfs.weights.safe_pickle import dump
from scfs.weights.store import Weights, load_weights


def export(weights: Path, format: str, encoder: str, out: Path) -> None:
    """Write one encoder's backbone to `out`, with the classifier if the file has one and the library a place for it.

    Args:
        weights: a file of weights of ours.
        format: torchvision, timm, detectron2 (a pickle for MODEL.WEIGHTS), safetensors (our own names), or pth (the
            same by torch.save).
        encoder: "teacher" or "student".
        out: file to write.

    Raises:
        ScfsError: the file lacks the encoder, or the format does not know the architecture.
    """
    backbone_tensors, about = load_weights(weights, f"{encoder}.backbone.")
    backbone = str(about.settings.get("backbone"))
    _check(format, backbone, weights)
    library = None if format in ("safetensors", "pth") else format
    names = names_in(library, backbone)
    assert names is not None  # _check
    tensors = {renamed(key, names): tensor.contiguous() for key, tensor in backbone_tensors.items()}
    if names.classifier:
        tensors |= {f"{names.classifier}.{key}": tensor for key, tensor in _classifier(weights, encoder).items()}
    tensors = dict(sorted(tensors.items()))
    facts = _facts(about, encoder, library, names.architectures.get(backbone, backbone))
    if format == "pth":
        buffer = io.BytesIO()  # not the file itself: its name would stand in it
        torch.save(tensors, buffer)
        write_with(out, lambda file: file.write(buffer.getbuffer()))
        return
    if format == "detectron2":
        pickled = _detectron2(tensors, {**facts, "weights_sha256": sha256_of(weights)})
        write_with(out, lambda file: file.write(pickled))
        return
    # One key holds it all in order: safetensors writes several keys in an order that changes from process to process.
    metadata = {"scfs_export": json.dumps(facts, sort_keys=True)}
    write_with(out, lambda file: file.write(save(tensors, metadata=metadata)))


def _detectron2(tensors: dict[str, Tensor], facts: dict[str, Any]) -> bytes:
    """What Detectron2 reads from a .pkl: names that end as the detector's do are found by `matching_heuristics`.

    `scfs` is ours alone; Detectron2 hands it back with what else it does not use.
    """
    model = {key: tensor.numpy() for key, tensor in tensors.items() if not key.endswith(OPTIONAL)}
    return dump({"__author__": "scfs", "matching_heuristics": True, "model": model, "scfs": facts})


def _check(format: str, backbone: str, weights: Path) -> None:
    allowed = export_formats(backbone)
    if format not in (*allowed, "pth"):
        raise ScfsError(f"{weights}: {backbone} cannot be written as {format!r}: allowed are {[*allowed, 'pth']}")


def _classifier(weights: Path, encoder: str) -> dict[str, Tensor]:
    """The classifier of a supervised network; empty where there is none."""
    tensors, _ = load_weights(weights, f"{encoder}.")
    prefix = "classifier."
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def _facts(about: Weights, encoder: str, library: str | None, architecture: str) -> dict[str, Any]:
    """What a reader of the file has to know."""
    return {
        "run": about.run,
        "identity": about.identity,
        "encoder": encoder,
        "library": library or "scfs",
        "architecture": architecture,
        "mean": IMAGENET_MEAN,
        "std": IMAGENET_STD,
        "scfs": __version__,
    }
