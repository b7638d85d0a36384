"""Reader of third-party weight files: it takes only tensors and plain values from them, and never runs their code."""

import argparse
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from scfs.errors import ScfsError

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


def _safetensors(path: Path) -> dict[str, Any]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ScfsError(f"{path}: not a readable safetensors file: {error}") from None


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
