"""Stands for torch while pip builds Detectron2, and never afterwards (the Makefile puts it on PYTHONPATH then).

Detectron2's setup.py imports torch only to compile its C++ operators, whose sources PyPI's sdist does not hold.
Faster and Mask R-CNN need none of them: RoIAlign and NMS are torchvision's. The wheel then has the Python code alone.
"""

from typing import Any

from setuptools import Distribution

__version__ = "2.0.0"


class version:  # noqa: N801, D101 (torch.version)
    hip = None


class cuda:  # noqa: N801, D101 (torch.cuda)
    @staticmethod
    def is_available() -> bool:  # noqa: D102
        return False


_plain_init = Distribution.__init__


def _without_requirements(self: Distribution, attributes: dict[str, Any] | None = None) -> None:
    """Leave out what pip refuses (an extra by URL, a pin on an old black): envs/runtime.txt has what is needed."""
    _plain_init(self, {**(attributes or {}), "extras_require": {}, "install_requires": []})


Distribution.__init__ = _without_requirements
