"""A cluster, a checkout on it with a small prepared study, and what an undisturbed training of it ends with."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkout import Checkout
from cluster import Cluster, impossible

collect_ignore = [
    module
    for module, wanted in {"test_slurm_image.py": "SCFS_IMAGE", "test_slurm_demo.py": "SCFS_SOAK"}.items()
    if not os.environ.get(wanted)
]


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes; with accounting where the module says `ACCOUNTING = True`."""
    accounting = getattr(request.module, "ACCOUNTING", False)
    if reason := impossible(accounting):
        pytest.skip(reason)
    cluster = Cluster(tmp_path_factory.mktemp("slurm"), accounting)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The study's data, and its training by two processes to which nothing happens."""
    checkout = Checkout.make(tmp_path_factory.mktemp("trained") / "checkout")
    subprocess.run(["scfs", "prepare", "scenes"], cwd=checkout.folder, env=checkout.environment(), check=True)
    checkout.pretrain_here()
    return checkout


@pytest.fixture(scope="session")
def undisturbed(trained: Checkout) -> str:
    """SHA-256 of the weights that two processes end with when nothing happens to them."""
    return trained.weights()


@pytest.fixture(scope="session")
def prepared(trained: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The study's data, and what has been counted for its forecast; nothing is trained."""
    folder = tmp_path_factory.mktemp("prepared") / "checkout"
    left_out = shutil.ignore_patterns("checkpoints", f"{trained.run}-*")
    shutil.copytree(trained.folder, folder, symlinks=True, ignore=left_out)
    shutil.rmtree(folder / "results/runs")
    return Checkout(folder)


@pytest.fixture
def checkout(prepared: Checkout, cluster: Cluster, tmp_path: Path) -> Iterator[Checkout]:
    """A checkout of the test's own; afterwards no job is left."""
    shutil.copytree(prepared.folder, tmp_path / "checkout", symlinks=True)
    yield Checkout(tmp_path / "checkout")
    cluster.settle()
