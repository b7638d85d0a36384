"""The image, built once: without torch in `make test`, in full in `make image-test` (SCFS_IMAGE_TEST=1)."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from image import FULL, NEEDED, Image
from repository import ROOT, copy_repository

collect_ignore = [] if FULL else ["test_full_image.py"]


@pytest.fixture(scope="session")
def image(request: pytest.FixtureRequest) -> Image:
    """Built from the working tree, on a stand-in for Debian's slim image."""
    if missing := [name for name in NEEDED if shutil.which(name) is None]:
        pytest.skip(f"not on this machine: {', '.join(missing)}; docker/install.sh installs them on Debian 12 (root)")
    if os.geteuid() != 0:
        pytest.skip("the stand-in for Debian's image is made by root")
    terminal = request.config.pluginmanager.getplugin("capturemanager")
    with terminal.global_and_fixture_disabled():  # minutes: progress has to be seen
        base = subprocess.run([ROOT / "docker/base.sh"], check=True, capture_output=True, text=True).stdout.strip()
        return Image.build("localhost/scfs:full-test" if FULL else "localhost/scfs:slim-test", base, ROOT)


@pytest.fixture(scope="session")
def sif(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Apptainer's image of it: a folder, since compressing takes minutes."""
    folder = tmp_path_factory.mktemp("apptainer") / "scfs"
    environment = {**os.environ, "SANDBOX": "1"}
    subprocess.run([ROOT / "docker/convert.sh", image.tag, folder], check=True, env=environment)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return copy_repository(tmp_path / "checkout")
