"""MATLAB files of official archives (scipy reads them): struct arrays as rows, cell arrays of text as names."""

import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from scfs.data.official.parsers.label_files import LabelFile
from scfs.errors import ScfsError, refusing


def read_structs(file: LabelFile, variable: str, fields: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the elements of a struct array, each with its place for messages.

    Args:
        file: content of a .mat file.
        variable: name of the array.
        fields: wanted ones; text comes as str, a number as int or float.

    Raises:
        ScfsError: not a .mat file, or without this variable or these fields.
    """
    array = _read(file, variable)
    missing = [name for name in fields if name not in (array.dtype.names or ())]
    if missing:
        raise ScfsError(f"{file.source}: {variable} has no field {missing[0]!r}")
    for number, element in enumerate(array, start=1):
        yield f"{file.source}: {variable}({number})", {name: element[name] for name in fields}


def read_names(file: LabelFile, variable: str) -> tuple[str, ...]:
    """Read the text of a cell array.

    Raises:
        ScfsError: not a .mat file, without this variable, or an element is not text.
    """
    names = tuple(_read(file, variable))
    for name in names:
        if not isinstance(name, str):
            raise ScfsError(f"{file.source}: {variable}: {name!r} is not a name")
    return names


def _read(file: LabelFile, variable: str) -> np.ndarray:
    """Read a variable, (n,)."""
    from scipy.io import loadmat  # here, since every stage imports this module, and few of them read such a file

    with refusing(f"{file.source}: not a readable .mat file", Exception):  # scipy raises many types of them
        found = loadmat(io.BytesIO(file.content), squeeze_me=True, variable_names=[variable])
    if variable not in found:
        raise ScfsError(f"{file.source}: no variable {variable!r} in it")
    return np.atleast_1d(found[variable]).reshape(-1)
