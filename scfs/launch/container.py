"""The processes of a launched stage in an Apptainer image. APPTAINER_BIND and APPTAINER_NV count here as everywhere."""

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from scfs.errors import ScfsError
from scfs.launch.settings import PREFIX, Launch

KEPT = ("OMP_NUM_THREADS",)
"""Environment variables, besides SCFS_*, that keep their values in the image."""


def inside(settings: Launch, program: list[str], *arguments: str) -> list[str]:
    """Return the command that runs `program` in the image, in this folder.

    Args:
        settings: `image` and `image_arguments`.
        program: the program and its arguments.
        arguments: further arguments of apptainer exec.

    Raises:
        ScfsError: the image or apptainer is not there.
    """
    assert settings.image is not None
    if not settings.image.exists():
        raise ScfsError(f"image = {settings.image}: not found")
    if shutil.which("apptainer") is None:
        raise ScfsError(f"image = {settings.image}: apptainer is not installed on this machine")
    here = str(Path.cwd())
    bound = ["--bind", here, "--pwd", here, *arguments, *settings.image_arguments]
    return ["apptainer", "exec", *bound, str(settings.image.resolve()), *program]


def enter(settings: Launch, environment: Mapping[str, str] = os.environ) -> None:
    """Replace this process by the same command in the image; does not return.

    In a checkout that runs the checkout's code, as outside of the image; elsewhere the image's own code.

    Raises:
        ScfsError: see `inside`.
    """
    kept = {key: value for key, value in environment.items() if key.startswith("SCFS_") or key in KEPT}
    kept[f"{PREFIX}IMAGE"] = ""
    if Path("scfs", "__init__.py").is_file():
        kept["PYTHONPATH"] = str(Path.cwd())
    variables = [part for key, value in kept.items() for part in ("--env", f"{key}={value}")]
    command = inside(settings, ["scfs", *sys.argv[1:]], "--cleanenv", *variables)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execvp(command[0], command)
