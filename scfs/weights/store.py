"""A run's weights: one safetensors file with both encoders, their heads, and the run that they come from."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from scfs.config.backbones import BACKBONES
from scfs.errors import ScfsError
from scfs.io.atomic import write_with
from scfs.model.backbones.base import Network
from scfs.model.backbones.registry import build_backbone


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
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118 (not a dict)
            tensors = {name.removeprefix(prefix): file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise ScfsError(f"{path}: not a readable safetensors file: {error}") from None
    if "scfs" not in metadata:
        raise ScfsError(f"{path}: not written by scfs: its metadata has no 'scfs' entry")
    if not tensors:
        raise ScfsError(f"{path}: holds no tensors named {prefix}*")
    try:
        return tensors, Weights(**json.loads(metadata["scfs"]))
    except (TypeError, ValueError):
        raise ScfsError(f"{path}: its metadata is not that of this version of scfs") from None


def load_backbone(path: Path, encoder: str = "teacher") -> tuple[Network, Weights]:
    """Build the backbone of `encoder` ("teacher" or "student") in eval mode from a file of weights.

    Raises:
        ScfsError: the file is unreadable or its tensors do not fit the architecture that it names.
    """
    tensors, weights = load_weights(path, f"{encoder}.backbone.")
    name = weights.settings.get("backbone")
    if not isinstance(name, str) or name not in BACKBONES:
        raise ScfsError(f"{path}: backbone {name!r}: not among {sorted(BACKBONES)}")
    backbone = build_backbone(name)
    try:
        backbone.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise ScfsError(f"{path}: does not fit {name}: {error}") from None
    return backbone.eval().requires_grad_(False).to(memory_format=torch.channels_last), weights


def load_classifier(path: Path, encoder: str = "teacher") -> nn.Linear | None:
    """Build the classifier that `encoder` was trained with; None where there is none.

    A classifier of third-party weights comes without the names of its classes.

    Raises:
        ScfsError: the file is unreadable, or has classes but not their classifier.
    """
    tensors, weights = load_weights(path, f"{encoder}.")
    weight, bias = tensors.get("classifier.weight"), tensors.get("classifier.bias")
    if weight is None and bias is None and not weights.classes:
        return None
    expected = len(weights.classes) or (0 if weight is None else len(weight))
    if weight is None or bias is None or not len(weight) == len(bias) == expected:
        raise ScfsError(f"{path}: {encoder}.classifier does not fit its {len(weights.classes)} classes")
    classifier = nn.Linear(weight.shape[1], len(weight))
    classifier.load_state_dict({"weight": weight, "bias": bias})
    return classifier.eval().requires_grad_(False)
