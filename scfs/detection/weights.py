"""A run's weights in a Detectron2 model: strictly, where Detectron2's own loading only warns."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from scfs.config.weight_formats import COUNTERS
from scfs.errors import ScfsError
from scfs.io.safe_pickle import load
from scfs.weights.state_dict_matching import match_tensors


@dataclass(frozen=True)
class Converted:
    """The origin of the weights in a file."""

    run: str
    """Name of the run."""
    identity: str
    """Its identity."""
    encoder: str
    """The run's encoder: teacher or student."""
    architecture: str
    """Its backbone, a name of scfs.model.resnet."""
    weights_sha256: str
    """Hash of the run's weights that the file was made from."""


def read_converted(path: Path) -> tuple[dict[str, Any], Converted]:
    """Read what `scfs convert --to detectron2` wrote: tensors by Detectron2's names, and their origin.

    Raises:
        ScfsError: no such file, damaged, more than arrays and plain values, or written by something else.
    """
    content = load(path)
    model, facts = (content.get(key) if isinstance(content, dict) else None for key in ("model", "scfs"))
    names = [field.name for field in fields(Converted)]
    if not (isinstance(model, dict) and isinstance(facts, dict) and all(isinstance(facts.get(n), str) for n in names)):
        raise ScfsError(f"{path}: not written by scfs convert --to detectron2")
    is_array = {key: isinstance(value, np.ndarray) and value.dtype.kind == "f" for key, value in model.items()}
    tensors = {str(key): torch.from_numpy(value) if is_array[key] else value for key, value in model.items()}
    return tensors, Converted(**{name: facts[name] for name in names})


def load_converted(model: nn.Module, path: Path) -> Converted:
    """Put a run's weights into a model that `build_model` made, whatever its dtype and device.

    A detector with FPN has them in `backbone.bottom_up`, a C4 one in `backbone` and `roi_heads.res5`. The heads, the
    FPN and the norm after res5 keep their initial values.

    Raises:
        ScfsError: see `read_converted`; or a tensor of the file has no place in the model, or another shape, or a place
            of the model's ResNet no tensor in the file.
    """
    found, converted = read_converted(path)
    places = _places(model)
    shapes = {name: tuple(place.shape) for name, place in places.items()}
    tensors = match_tensors(found, shapes, f"{path}: {converted.architecture} does not fit the detector")
    with torch.no_grad():
        for name, tensor in tensors.items():
            places[name].copy_(tensor)
    return converted


def _places(model: nn.Module) -> dict[str, Tensor]:
    """Collect parameters and buffers of a detector's ResNet by their names in the file."""
    backbone: Any = model.backbone
    places = getattr(backbone, "bottom_up", backbone).state_dict()
    res5 = getattr(model.roi_heads, "res5", None)
    if res5 is not None:
        places |= {f"res5.{name}": value for name, value in res5.state_dict().items() if not name.startswith("norm.")}
    return {name: value for name, value in places.items() if not name.endswith(COUNTERS)}
