"""Pickles of plain values and arrays, and a safe unpickler that reads nothing else: Detectron2 takes weights as such.

NumPy's own pickles name a function that NumPy 2 moved, so that older versions cannot read the newer one's. Here an
array is `numpy.ndarray(shape, type, bytearray)`, which all of them understand.
"""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from scfs.errors import reading, refusing


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return np.ndarray, (value.shape, value.dtype.str, bytearray(value.tobytes()))
        return NotImplemented


class _SafeUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        allowed = {"numpy.ndarray": _array, "builtins.bytearray": _bytes}
        if f"{module}.{name}" not in allowed:
            raise pickle.UnpicklingError(f"it needs {module}.{name}, which is more than plain values and arrays")
        return allowed[f"{module}.{name}"]


def _array(shape: tuple[int, ...], type: str, content: bytearray) -> np.ndarray[Any, Any]:
    return np.frombuffer(content, np.dtype(type)).reshape(shape)


def _bytes(content: bytes = b"") -> bytearray:
    return bytearray(memoryview(content))  # of a number, `bytearray` would make as many zeros


def dump(value: Any) -> bytes:
    """Pickle plain values and contiguous arrays; the same input gives the same bytes, whatever the process.

    Protocol 4 is the newest that Python 3.7 reads.
    """
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=4).dump(value)
    return buffer.getvalue()


def load(path: Path) -> Any:
    """Read what `dump` wrote; nothing else that the file names is ever called.

    Raises:
        ScfsError: no such file, damaged, or more than plain values and arrays.
    """
    with reading(path):
        content = path.read_bytes()
    # Bytes that are no pickle, or half of one, can make the reader raise anything.
    with refusing(f"{path}: not a readable pickle of arrays", Exception):
        return _SafeUnpickler(io.BytesIO(content)).load()
