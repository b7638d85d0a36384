"""Reader of third-party weight files: it takes only tensors and plain values from them, and never runs their code."""

import argparse
import re
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from scfs.errors import ScfsError, refusing

NamedValues = Mapping[str, Any]
HARMLESS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [argparse.Namespace]
"""Classes that a pickle may name. DINO's checkpoints keep their command line in one, which has no behaviour."""


def read_third_party(path: Path) -> dict[str, Any]:
    """Read a .safetensors file, or one that `torch.save` wrote.

    Raises:
        ScfsError: no such file, damaged, something else than tensors and plain values, or not a mapping of names.
    """
    if not path.is_file():
        raise ScfsError(f"{path}: no such weights file")
    content = _safetensors(path) if path.suffix == ".safetensors" else _pickle(path)
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ScfsError(f"{path}: holds a {type(content).__name__}, not a mapping from names to tensors")
    return dict(content)


def find_network(
    content: NamedValues, wanted: Collection[str], prefix: str, ignore: Sequence[str], path: Path
) -> dict[str, Any]:
    """Find the state dict of a network in what a file holds, however deep and under whatever prefix its names stand.

    What lies in other dictionaries (an optimiser's state) is left alone; what has another prefix in the same one is
    returned under its own name, unless `prefix` says which is meant.

    Args:
        content: what `read_third_party` gives.
        wanted: names of the network's tensors.
        prefix: keys of dictionaries and the beginning of names, joined by dots; empty: there must be one network.
        ignore: beginnings of names, without the prefix, to leave out.
        path: the file, for an error's line.

    Raises:
        ScfsError: there are several networks, or none under the prefix.
    """
    # A name that ends no other one: under its prefix are all the others.
    mark = next(name for name in wanted if not any(other.endswith(f".{name}") for other in wanted))
    states = dict(_state_dicts(content))
    marked = ((place, name) for place, state in states.items() for name in state if f".{name}".endswith(f".{mark}"))
    networks = {f"{place}{name.removesuffix(mark)}": (place, name.removesuffix(mark)) for place, name in marked}
    chosen = [name for name in networks if not prefix or name.rstrip(".") == prefix.rstrip(".")]
    if len(chosen) > 1 or (prefix and not chosen):
        raise ScfsError(
            f"{path}: prefix = {prefix!r}: {len(chosen)} networks; give one of {sorted(networks)}"
            " (--prefix, or `prefix` of the run)"
        )
    place, start = networks[chosen[0]] if chosen else (max(states, key=lambda key: len(states[key]), default=""), "")
    return {
        name.removeprefix(start): value
        for name, value in states.get(place, content).items()
        if (name.startswith(start) or not prefix) and not name.removeprefix(start).startswith(tuple(ignore))
    }


def _state_dicts(content: NamedValues, place: str = "", levels: int = 4) -> Iterator[tuple[str, NamedValues]]:
    """Yield the dictionaries that hold tensors by name, and where they are."""
    if any(isinstance(value, Tensor) for value in content.values()):
        yield place, content
    for key, value in content.items():
        if levels and isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
            yield from _state_dicts(value, f"{place}{key}.", levels - 1)


def _safetensors(path: Path) -> dict[str, Any]:
    with refusing(f"{path}: not a readable safetensors file", SafetensorError, OSError):
        return load_file(path)


def _pickle(path: Path) -> Any:
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(HARMLESS):
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile file can make the reader raise anything
        asked = re.search(r"GLOBAL (?:GLOBAL )?([\w.]+)", str(error))
        if asked:
            raise ScfsError(f"{path}: refused: its pickle needs {asked[1]}, which is more than tensors") from None
        raise ScfsError(f"{path}: not a readable file of torch.save: damaged, or of another kind") from None
