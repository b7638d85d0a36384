"""The weights that a pre-training starts from, when they are not random."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from scfs.config.weight_formats import FORMATS
from scfs.errors import ScfsError
from scfs.io.results import sha256_of
from scfs.weights.import_weights import tensors_of, trained_by_scfs
from scfs.weights.state_dict_matching import Tensors
from scfs.weights.store import facts_of

ENCODER = "teacher."
"""Encoder that is taken of a file with two; a single network counts as one."""


@dataclass(frozen=True)
class Initial:
    """One encoder of a file of weights."""

    tensors: Tensors
    """Tensors by our names: backbone.*, head.*, layer4_head.*, classifier.*."""
    source: dict[str, str]
    """Facts for the run's record: the file's name and SHA-256; run and identity if scfs trained it."""


def read_initial(path: Path, backbone: str) -> Initial:
    """Read the weights to start from: ours, or of any format that can be imported.

    Args:
        path: the file.
        backbone: our name of the architecture that it must have.

    Raises:
        ScfsError: no such file, it fits no format of this backbone, or a number is not finite.
    """
    tensors = _tensors(path, backbone)
    source = {"file": path.name, "sha256": sha256_of(path), **trained_by_scfs(path)}
    return Initial({k.removeprefix(ENCODER): v for k, v in tensors.items() if k.startswith(ENCODER)}, source)


def own_settings(path: Path) -> dict[str, Any]:
    """Return the settings of a file of ours that the network and its heads depend on; {} for weights of others.

    Raises:
        ScfsError: see `scfs.weights.store.facts_of`.
    """
    found = about.settings if (about := facts_of(path)) else {}
    return {key: found[key] for key in ("method", "backbone", "layers", "head", "search_head") if key in found}


def _tensors(path: Path, backbone: str) -> Tensors:
    """Take the first format that the file is of; if it is of none, what is said names the network that it has."""
    problems = []
    for format in (name for name in FORMATS if FORMATS[name].imports and FORMATS[name].name_map(backbone)):
        try:
            return tensors_of(path, format, backbone)
        except ScfsError as error:
            problems.append(error)
    raise max(problems, key=lambda error: "its keys are those of" in str(error))


def start_from(initial: Initial, *encoders: nn.Module) -> list[str]:
    """Load the parts of encoders whose tensors the file has in the same shapes; return the names of the other parts."""
    new = []
    for name, part in encoders[0].named_children():
        found = {k.removeprefix(f"{name}."): v for k, v in initial.tensors.items() if k.startswith(f"{name}.")}
        if {key: value.shape for key, value in found.items()} != {k: v.shape for k, v in part.state_dict().items()}:
            new.append(name)
            continue
        for encoder in encoders:
            encoder.get_submodule(name).load_state_dict(found)
    return new
