"""Mends for Detectron2 0.6 on today's Python, for the whole process; import it before anything of Detectron2's.

Each mend applies only where something is missing: a newer or a compiled Detectron2 is used as it is.
"""

import importlib.resources
import importlib.util
import re
import sys
import warnings
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from scfs.errors import ScfsError

PILLOW = {"LINEAR": Image.Resampling.BILINEAR}
"""Names that Pillow 10 dropped."""

NUMPY = {"bool": bool, "int": int, "float": float, "str": str}
"""Names of Python's own types that NumPy 1.24 dropped."""


QUIETENED = ("torch.meshgrid", "The given NumPy array is not writable", "`torch.jit.script` is deprecated")
"""Beginnings of warnings about Detectron2's own code, which no user can act on."""


def mend() -> None:
    """Mend all that is missing; what is mended already is not missing.

    Raises:
        ScfsError: Detectron2 is not installed.
    """
    if not _is_there("detectron2"):
        raise ScfsError("Detectron2 is not installed: envs/README.md says how")
    for beginning in QUIETENED:
        warnings.filterwarnings("ignore", message=re.escape(beginning))
    add_missing(Image, PILLOW)
    add_missing(np, NUMPY)
    stand_in("pkg_resources", resource_filename=_resource_filename)
    # What `default_setup` logs; all else is asked for only by operators that our detectors do not use.
    versions = dict.fromkeys(("get_compiler_version", "get_cuda_version"), lambda: "not compiled")
    stand_in("detectron2._C", **versions, has_cuda=lambda: False)


def add_missing(module: ModuleType, names: dict[str, Any]) -> None:
    """Add to a module those of the names that it lacks."""
    with warnings.catch_warnings(action="ignore"):  # NumPy's about its former names
        for name in names:
            if not hasattr(module, name):
                setattr(module, name, names[name])


def stand_in(name: str, **functions: Any) -> None:
    """Put a module of these functions where there is none; any other function of it raises when it is called."""
    if not _is_there(name):
        sys.modules[name] = module = ModuleType(name, "Stands in for a module that is not installed.")
        module.__dict__.update(functions, __getattr__=lambda function: _absent(name, function))


def _is_there(name: str) -> bool:
    return name in sys.modules or importlib.util.find_spec(name) is not None


def _absent(module: str, function: str) -> Any:
    if function.startswith("__"):  # what Python itself asks a module for
        raise AttributeError(function)

    def refuse(*arguments: Any, **options: Any) -> Any:
        raise ScfsError(f"{module}.{function} is needed: this Detectron2 was installed without it")

    return refuse


def _resource_filename(package: str, path: str) -> str:
    """Path of a file within a package; the one function of pkg_resources that Detectron2 uses."""
    return str(importlib.resources.files(package).joinpath(path))


mend()
