"""Stands for torch.utils.cpp_extension: compiles nothing, and carries the model zoo's configs into the wheel."""

import shutil
from pathlib import Path

from setuptools import Extension
from setuptools.command.build_ext import build_ext

CUDA_HOME = ROCM_HOME = None
CppExtension = CUDAExtension = Extension
CONFIGS = Path("detectron2/model_zoo/configs")


class BuildExtension(build_ext):
    """Setup.py looks for the configs in a folder that the sdist does not hold; they are where they belong already."""

    def run(self) -> None:
        """Copy the configs in place of compiling."""
        shutil.copytree(CONFIGS, Path(self.build_lib) / CONFIGS, dirs_exist_ok=True)

    def get_outputs(self) -> list[str]:
        """Nothing was compiled."""
        return []

    def get_output_mapping(self) -> dict[str, str]:
        """Nothing was compiled."""
        return {}
