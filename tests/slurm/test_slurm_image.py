"""Pre-training on two nodes in the Apptainer image that SCFS_IMAGE names; part of `make image-test`."""

import json
import subprocess

from checkout import BY_PROFILE, Checkout
from cluster import Cluster

APPTAINER = ["--sdm", "apptainer", "--apptainer-args=--cleanenv --env PYTHONPATH=.", "--slurm-no-account"]


def digest_in(checkout: Checkout) -> str:
    image = checkout.environment()["SCFS_IMAGE"]
    command = ["apptainer", "exec", image, "sh", "-c", "echo $SCFS_IMAGE_DIGEST"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_every_rule_and_every_process_runs_in_the_image(checkout: Checkout, cluster: Cluster, undisturbed: str) -> None:
    options = [*BY_PROFILE, *APPTAINER, "--slurm-status-command", "squeue"]
    checkout.finished(checkout.start("snakemake", *options), seconds=400)
    assert checkout.weights() == undisturbed, "the weights of the environment outside"
    occasions = [json.loads(path.read_text()) for path in checkout.folder.glob("results/**/*.run.json")]
    assert len(occasions) >= 2 and {occasion["image_digest"] for occasion in occasions} == {digest_in(checkout)}


def test_a_job_in_the_image_saves_and_is_queued_again(checkout: Checkout, cluster: Cluster, undisturbed: str) -> None:
    launcher = checkout.pretrain(SCFS_LAUNCH_IMAGE=checkout.environment()["SCFS_IMAGE"])
    step = checkout.reach(10)
    subprocess.run(["scancel", "--signal=USR2", checkout.job()], check=True)
    checkout.finished(launcher)
    assert "stopped by SIGUSR2 at step" in checkout.said and "resuming at step" in checkout.said
    assert len(checkout.submitted()) == 1 and checkout.weights() == undisturbed and step >= 10
