"""A run's weights: one safetensors file with both encoders, their heads, and the run that they come from."""

import json
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from scfs.config.backbones import BACKBONES
from scfs.errors import ScfsError, refusing
from scfs.io.atomic import write_with
from scfs.model.backbones.base import Network
from scfs.model.backbones.registry import build_backbone
from scfs.weights.state_dict_matching import backbone_shapes, match_classifier, match_tensors


@dataclass(frozen=True)
class Weights:
    """Facts that a file of weights holds beside the tensors."""

    run: str
    """Name of the run."""
    identity: str
    """Identity of the run: settings, data and code version (scfs.config.identity)."""
    settings: dict[str, Any]
    """The run's settings with defaults filled in (the class Pretrain as plain values)."""
    dataset_digest: str
    """Hash of the images that the run was trained on."""
    precision: str
    """Arithmetic of the forward pass after "auto" was resolved."""
    classes: list[str] = field(default_factory=list)
    """Names of the classes in the order of the classifier's outputs; empty where there is no classifier."""


def save_weights(path: Path, tensors: dict[str, Tensor], weights: Weights) -> None:
    """Write tensors named `student.*` and `teacher.*`; the same input gives the same bytes."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}
    text = json.dumps(vars(weights), sort_keys=True)
    write_with(path, lambda file: file.write(save(plain, metadata={"scfs": text})))


def load_weights(path: Path, prefix: str) -> tuple[dict[str, Tensor], Weights]:
    """Read the tensors whose names start with `prefix`, without it.

    Raises:
        ScfsError: no such file, not a safetensors file, not written by scfs, or nothing under the prefix.
    """
    if not path.is_file():
        raise ScfsError(f"{path}: no such weights file")
    problem, advice = f"{path}: not a readable safetensors file", ": make the weights again"
    with refusing(problem, SafetensorError, OSError, advice=advice), safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118 (not a dict)
        tensors = {name.removeprefix(prefix): file.get_tensor(name) for name in names}
    if "scfs" not in metadata:
        raise ScfsError(f"{path}: not written by scfs: its metadata has no 'scfs' entry")
    if not tensors:
        raise ScfsError(f"{path}: holds no tensors named {prefix}*")
    with refusing(f"{path}: its metadata is not that of this version of scfs", TypeError, ValueError):
        return tensors, Weights(**json.loads(metadata["scfs"]))


def facts_of(path: Path) -> Weights | None:
    """Read what a file of weights says of itself, whatever its name ends in; None if scfs did not write it.

    Raises:
        ScfsError: it is of another version of scfs.
    """
    facts = ""
    if path.is_file():  # a pipe would be waited for
        with suppress(SafetensorError, OSError), safe_open(path, framework="pt") as file:
            facts = (file.metadata() or {}).get("scfs", "")
    with refusing(f"{path}: its metadata is not that of this version of scfs", TypeError, ValueError):
        return Weights(**json.loads(facts)) if facts else None


def own_tensors(path: Path, backbone: str) -> tuple[dict[str, Tensor], Weights]:
    """Read all encoders of a file of ours with their heads: tensors named `teacher.*`, `student.*`.

    Raises:
        ScfsError: see `backbone_tensors`; or the file holds another backbone.
    """
    tensors, weights = load_weights(path, "")
    for encoder in sorted({name.split(".")[0] for name in tensors}):
        _, name, _ = backbone_tensors(path, encoder)
        if name != backbone:
            raise ScfsError(f"{path}: does not fit {backbone}: it is a {name}")
    return match_tensors(tensors, {name: tuple(tensor.shape) for name, tensor in tensors.items()}, str(path)), weights


def backbone_tensors(path: Path, encoder: str) -> tuple[dict[str, Tensor], str, Weights]:
    """Read the backbone of `encoder` ("teacher" or "student"): its tensors, and its name.

    Raises:
        ScfsError: the file is unreadable, or its tensors are not those of its backbone, or not finite.
    """
    tensors, weights = load_weights(path, f"{encoder}.backbone.")
    name = weights.settings.get("backbone")
    if not isinstance(name, str) or name not in BACKBONES:
        raise ScfsError(f"{path}: backbone {name!r}: not among {sorted(BACKBONES)}")
    return match_tensors(tensors, backbone_shapes(name), f"{path}: does not fit {name}"), name, weights


def load_backbone(path: Path, encoder: str = "teacher") -> tuple[Network, Weights]:
    """Build the backbone of `encoder` ("teacher" or "student") in eval mode from a file of weights.

    Raises:
        ScfsError: see `backbone_tensors`.
    """
    tensors, name, weights = backbone_tensors(path, encoder)
    backbone = build_backbone(name)
    backbone.load_state_dict(tensors, strict=True)
    return backbone.eval().requires_grad_(False).to(memory_format=torch.channels_last), weights


def classifier_tensors(path: Path, encoder: str) -> dict[str, Tensor]:
    """Read the classifier that `encoder` was trained with, `classifier.weight` and `classifier.bias`, if it has one.

    Raises:
        ScfsError: the file is unreadable, or has no whole and finite classifier of its backbone and classes.
    """
    tensors, weights = load_weights(path, f"{encoder}.")
    taken = match_classifier(tensors, "classifier", str(weights.settings.get("backbone")), str(path))
    if weights.classes and len(taken.get("classifier.bias", ())) != len(weights.classes):
        raise ScfsError(f"{path}: {encoder}.classifier does not fit its {len(weights.classes)} classes")
    return taken


def load_classifier(path: Path, encoder: str = "teacher") -> nn.Linear | None:
    """Build the classifier that `encoder` was trained with; None where there is none.

    A classifier of third-party weights comes without the names of its classes.

    Raises:
        ScfsError: see `classifier_tensors`.
    """
    tensors = classifier_tensors(path, encoder)
    if not tensors:
        return None
    classes, width = tensors["classifier.weight"].shape
    classifier = nn.Linear(width, classes)
    classifier.load_state_dict({key.removeprefix("classifier."): tensor for key, tensor in tensors.items()})
    return classifier.eval().requires_grad_(False)
