"""Strict matching of state dicts: every tensor of a file has a place in our encoder, and every place its tensor."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from scfs.config.backbones import BACKBONES
from scfs.config.pretrain import SearchHead as SearchSettings
from scfs.config.weight_formats import COUNTERS, NameMap, WeightFormat
from scfs.errors import ScfsError
from scfs.model.backbones.registry import build_backbone
from scfs.model.heads import SearchHead

Tensors = dict[str, Tensor]
Shapes = dict[str, tuple[int, ...]]

DISTRIBUTED = "module."
"""Prefix of everything that DistributedDataParallel wraps; a file has it on all names of an encoder or on none."""

WEIGHT_NORM = {
    "last_layer.parametrizations.weight.original0": "last_layer.weight_g",
    "last_layer.parametrizations.weight.original1": "last_layer.weight_v",
}
"""PyTorch's newer names of a weight-normalised layer, and the older ones, which are ours."""


def _shapes(tensors: Mapping[str, Tensor]) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def match_tensors(found: Mapping[str, Any], shapes: Shapes, what: str) -> Tensors:
    """Take the tensors of `shapes` from `found`, which must have them all and no other.

    Args:
        found: tensors by name.
        shapes: wanted names and shapes.
        what: beginning of an error's line: the file, and what did not fit what.

    Raises:
        ScfsError: an unknown or a missing name, a value that is no tensor of numbers in memory, another shape, or a
            number that float32 has not: NaN, or one that is infinite there.
    """
    unknown = [name for name in found if name not in shapes]
    missing = [name for name in shapes if name not in found and not name.endswith(COUNTERS)]
    if unknown or missing:
        said = [f"{_count(names)} {kind}" for names, kind in ((missing, "missing"), (unknown, "unknown")) if names]
        raise ScfsError(f"{what}: {', '.join(said)}")
    tensors: Tensors = {}
    for name, shape in shapes.items():
        value = found.get(name, torch.zeros((), dtype=torch.int64))
        if kind := _unfit(value, name):
            raise ScfsError(f"{what}: {name!r} is a {kind}, not a dense tensor of floating-point numbers")
        if tuple(value.shape) != shape:
            raise ScfsError(f"{what}: {name!r} has shape {tuple(value.shape)}, allowed is {shape}")
        if not bool(torch.isfinite(value.float()).all()):
            raise ScfsError(f"{what}: {name!r} has numbers that are not finite in float32")
        tensors[name] = value.detach().clone(memory_format=torch.contiguous_format)
    return tensors


def _unfit(value: Any, name: str) -> str:
    """Say what a value is that is no dense tensor of floating-point numbers; counters may be whole ones."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    is_number = value.is_floating_point() or (name.endswith(COUNTERS) and not value.is_complex())
    kinds = {
        "nested tensor": value.is_nested,
        f"tensor of the layout {value.layout}": value.layout != torch.strided,
        "quantised tensor": value.is_quantized,
        "meta tensor": value.is_meta,
        f"tensor of {value.dtype}": not is_number,
    }
    return next((kind for kind, found in kinds.items() if found), "")


def _count(names: list[str]) -> str:
    shown = ", ".join([*map(repr, names[:2]), *["..."] * (len(names) > 2)])
    return f"{len(names)} {'keys' if len(names) > 1 else 'key'} ({shown})"


def match_backbone(found: Mapping[str, Any], backbone: str, names: NameMap, source: str) -> Tensors:
    """Return a library's tensors under our names.

    Raises:
        ScfsError: see `match_tensors`; if they are those of another backbone of ours, the line says so.
    """
    try:
        return _backbone(found, backbone, names, source)
    except ScfsError as error:
        for other in BACKBONES:
            if other != backbone and _fits(found, other, names):
                raise ScfsError(f"{error}; its keys are those of {other}") from None
        raise


def backbone_shapes(backbone: str) -> Shapes:
    """Return the names and shapes of a backbone's tensors."""
    with torch.device("meta"):
        return _shapes(build_backbone(backbone).state_dict())


def _backbone(found: Mapping[str, Any], backbone: str, names: NameMap, source: str) -> Tensors:
    shapes = backbone_shapes(backbone)
    theirs = {names(name): shape for name, shape in shapes.items()}
    tensors = match_tensors(found, theirs, f"{source}: does not fit {backbone}")
    return {name: tensors[names(name)] for name in shapes}


def _fits(found: Mapping[str, Any], backbone: str, names: NameMap) -> bool:
    try:
        return bool(_backbone(found, backbone, names, ""))
    except (ScfsError, KeyError):  # KeyError: of another family than the names
        return False


def match_classifier(found: dict[str, Any], prefix: str, backbone: str, source: str) -> Tensors:
    """Take a backbone's classifier out of `found`, if it has one: `classifier.weight` (K, C), `classifier.bias` (K,).

    Raises:
        ScfsError: only one of the two, or shapes that are no classifier's.
    """
    given = {key: found.pop(key) for key in (f"{prefix}.weight", f"{prefix}.bias") if key in found}
    if not given:
        return {}
    with torch.device("meta"):
        width = build_backbone(backbone).channels["layer4"]
    classes = (_size(given, f"{prefix}.weight", 2) or (1,))[0]
    shapes: Shapes = {f"{prefix}.weight": (classes, width), f"{prefix}.bias": (classes,)}
    tensors = match_tensors(given, shapes, f"{source}: its classifier does not fit")
    return {f"classifier.{key.rpartition('.')[2]}": tensor for key, tensor in tensors.items()}


def match_encoder(
    found: Mapping[str, Any], format: WeightFormat, backbone: str, names: NameMap, source: str
) -> Tensors:
    """Return an encoder of a training checkpoint: `backbone.*`, `head.*`, `layer{i}_head.*`.

    Args:
        found: tensors of the encoder, with or without DistributedDataParallel's prefix.
        format: prefix of the backbone, and names of the heads.
        backbone: our name of the architecture.
        names: names of its tensors.
        source: the file, for an error's line.

    Raises:
        ScfsError: a tensor without a place, or a place without its tensor.
    """
    plain = dict(found)
    if plain and all(key.startswith(DISTRIBUTED) for key in plain):
        plain = {key.removeprefix(DISTRIBUTED): value for key, value in plain.items()}
    inside = _under(plain, format.prefix)
    tensors = {f"backbone.{key}": value for key, value in match_backbone(inside, backbone, names, source).items()}
    for head in format.heads:
        part = _under(plain, f"{head}.")
        part = {WEIGHT_NORM.get(key, key): value for key, value in part.items()}
        shapes = projection_shapes(part) if head == "head" else search_shapes(part)
        taken = match_tensors(part, shapes, f"{source}: its {head} does not fit")
        tensors |= {f"{head}.{key}": value for key, value in taken.items()}
    if plain:
        raise ScfsError(f"{source}: {_count(list(plain))} unknown")
    return tensors


def _under(tensors: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Move out of `tensors` what is named `prefix`*, without the prefix."""
    return {key.removeprefix(prefix): tensors.pop(key) for key in list(tensors) if key.startswith(prefix)}


def projection_shapes(head: Mapping[str, Any]) -> Shapes:
    """Return the names and shapes of a projection head of DINO's code, for the depth, widths and BatchNorm of `head`.

    The last layer is weight-normalised (weight_g, weight_v), or plain as in DINO's ResNet-50 checkpoint.
    """
    linear = [key for key in head if re.fullmatch(r"mlp\.\d+\.weight", key) and _size(head, key, 2)]
    linear.sort(key=lambda key: int(key.split(".")[1]))
    normed = any(key.endswith("running_mean") for key in head)
    layers: list[nn.Module] = []
    with torch.device("meta"):
        for key in linear:
            outputs, inputs = _size(head, key, 2)
            layers += [nn.Linear(inputs, outputs), *[nn.BatchNorm1d(outputs)] * normed, nn.GELU()]
        mlp = nn.Sequential(*layers[: -1 - normed])  # the last one has neither
    shapes = {f"mlp.{name}": shape for name, shape in _shapes(mlp.state_dict()).items()}
    width = _size(head, linear[-1], 2)[0] if linear else 1
    plain = "last_layer.weight" in head
    last = "last_layer.weight" if plain else "last_layer.weight_v"
    prototypes = (_size(head, last, 2) or (1, 1))[0]
    shapes |= {"mlp.0.weight": (1, 1)} if not linear else {}
    return shapes | {last: (prototypes, width)} | ({} if plain else {"last_layer.weight_g": (prototypes, 1)})


def search_shapes(head: Mapping[str, Any]) -> Shapes:
    """Return the names and shapes of a search head, for the widths of `head`."""
    width, channels = (_size(head, "conv1.weight", 4) or (1, 1))[:2]
    hidden = (_size(head, "mlp.0.weight", 2) or (1, 1))[0]
    output = (_size(head, "mlp.3.weight", 2) or (1, 1))[0]
    with torch.device("meta"):
        settings = SearchSettings(width=width, hidden=hidden, output=output)
        return _shapes(SearchHead(channels, settings).state_dict())


def _size(tensors: Mapping[str, Any], key: str, dimensions: int) -> tuple[int, ...]:
    """Return the shape of a tensor if it has so many dimensions, else nothing."""
    value = tensors.get(key)
    return tuple(value.shape) if isinstance(value, Tensor) and not value.is_nested and value.ndim == dimensions else ()
