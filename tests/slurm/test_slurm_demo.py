"""The demo's own pre-training through the profile, its launcher lost half way; part of `make soak` (half an hour)."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

from checkout import Checkout, live_jobs
from cluster import Cluster
from repository import copy_repository

ACCOUNTING = True
RUN = "demo-scfs"


def test_the_demo_pretrains_through_the_profile(cluster: Cluster, tmp_path: Path) -> None:
    here = Checkout(copy_repository(tmp_path / "here"), RUN)
    subprocess.run(["scfs", "prepare", "garments"], cwd=here.folder, env=here.environment(), check=True)
    shutil.copytree(here.folder, tmp_path / "cluster", symlinks=True)
    here.pretrain_here()
    checkout = Checkout(tmp_path / "cluster", RUN)
    snakemake = checkout.snakemake()
    checkout.reach(372, 1800)  # half of the steps
    os.killpg(snakemake.pid, signal.SIGHUP)
    snakemake.wait(60)
    assert live_jobs() == [checkout.job()], checkout.said[-3000:]
    checkout.unlock()
    checkout.finished(checkout.snakemake(), seconds=1800)
    assert len(checkout.submitted()) == 1 and checkout.weights() == here.weights()
