"""Copies of this repository for tests that run its commands, and the environment for them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from warm import warm_programs

ROOT = Path(__file__).resolve().parent.parent


def git(folder: Path, *arguments: str) -> str:
    """Output of a git command in `folder`."""
    command = ["git", "-C", str(folder), "-c", "user.name=test", "-c", "user.email=test@localhost", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def copy_repository(folder: Path, every_dvc_file: bool = True) -> Path:
    """Make `folder` a repository whose only commit is the working tree as it is now, ignored files left out.

    Args:
        folder: made with its parents.
        every_dvc_file: False leaves out the dvc.yaml of each study but the first. Each command of DVC reads all of them:
            1,755 stages, 20 seconds.
    """
    for name in git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")[:-1]:
        left_out = name.startswith("config/") and name.endswith("/dvc.yaml") and not every_dvc_file
        if os.path.lexists(ROOT / name) and not left_out:  # the first: deleted, and still in the index
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name, follow_symlinks=False)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--no-verify", "--message", "working tree")
    return folder


def copy_folder(folder: Path, target: Path) -> Path:
    """Copy a folder with its times, links as they are; by `cp`, which needs a third of `shutil.copytree`'s time."""
    subprocess.run(["cp", "--archive", str(folder), str(target)], check=True)
    return target


def command_environment(folder: Path, warm: bool = False) -> dict[str, str]:
    """Environment in which `scfs`, `snakemake` and `dvc` are this environment's and import the package from `folder`.

    Args:
        folder: the repository, or a copy of it.
        warm: take them from `warm_programs`, where they start at once.
    """
    places = [str(warm_programs())] if warm else []
    path = os.pathsep.join([*places, str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "DVC_NO_ANALYTICS": "1"}


def warm_scfs(*arguments: str) -> tuple[str, ...]:
    """Command that is `scfs`, and for which what it starts, Snakemake and DVC, is warm too: it looks beside Python."""
    values = f"sys.executable, sys.argv = {str(warm_programs() / 'warm-python')!r}, ['scfs', *{arguments!r}]"
    return "warm-python", "-c", f"import sys; {values}; import scfs.cli; scfs.cli.main()"


def toy_environment(*toys: str, warm: bool = False) -> dict[str, str]:
    """Environment in which `scfs` has these plugins of tests/toys."""
    environment = command_environment(ROOT, warm)
    environment["PYTHONPATH"] += f"{os.pathsep}{ROOT / 'tests'}"
    return environment | {"SCFS_PLUGINS": ",".join(f"toys.{toy}" for toy in toys)}
