"""A whole study by `snakemake --profile workflow/profiles/slurm`; preemption; a time limit; two Snakemakes at once."""

import json
import signal
import subprocess

from checkout import BY_PROFILE, PROFILE, STEPS, Checkout, live_jobs
from cluster import Cluster

ACCOUNTING = True


def test_every_rule_is_a_job_and_only_pre_training_submits_its_own(checkout: Checkout, undisturbed: str) -> None:
    options = [*BY_PROFILE, "--slurm-no-account"]
    said = checkout.finished(checkout.start("snakemake", *options, "--seconds-between-status-checks", "2"))
    assert checkout.weights() == undisturbed
    assert (checkout.folder / "results/studies/small/report.html").is_file()
    assert len(checkout.submitted()) == 1
    comments = subprocess.run(["sacct", "-X", "-n", "-o", "jobname%40,state"], capture_output=True, text=True).stdout
    assert comments.split().count("COMPLETED") >= 5, comments + said[-2000:]
    again = subprocess.run(
        ["snakemake", "-n", "--profile", PROFILE],
        cwd=checkout.folder,
        env=checkout.environment(),
        capture_output=True,
        text=True,
    )
    assert "Nothing to be done" in again.stdout + again.stderr
    status = subprocess.run(
        ["scfs", "status"], cwd=checkout.folder, env=checkout.environment(), capture_output=True, text=True
    )
    assert f"small  done   {STEPS}/{STEPS}" in status.stdout, status


def test_preemption_by_a_higher_partition(checkout: Checkout, cluster: Cluster, undisturbed: str) -> None:
    launcher = checkout.pretrain(SCFS_LAUNCH_PARTITION="gpu", SCFS_LAUNCH_SBATCH="{exclusive: true}")
    checkout.reach(10)
    urgent = ["sbatch", "--partition=high", "--nodes=2", "--exclusive", "--wrap=sleep 5", "--output=/dev/null"]
    subprocess.run(urgent, check=True, capture_output=True)
    checkout.finished(launcher)
    assert "stopped by SIGUSR2 at step" in checkout.said and "resuming at step" in checkout.said
    assert len(checkout.submitted()) == 1 and checkout.weights() == undisturbed


def test_two_snakemakes_at_once(checkout: Checkout, undisturbed: str) -> None:
    first = checkout.snakemake()
    with checkout.paused(checkout.job()):
        second, unlock = (
            subprocess.run(command, cwd=checkout.folder, env=checkout.environment(), capture_output=True, text=True)
            for command in (["snakemake", "--profile", PROFILE, "checkpoints/small.safetensors"], ["scfs", "unlock"])
        )
        assert second.returncode == 1 and "lock" in second.stderr
        assert unlock.returncode == 1 and "still works in this folder" in unlock.stderr
        third = checkout.pretrain()  # past Snakemake's lock
        assert "follows this run's job" in checkout.finished(third, code=1)
        assert len(live_jobs()) == 1
        status = subprocess.run(
            ["scfs", "status"], cwd=checkout.folder, env=checkout.environment(), capture_output=True, text=True
        )
        assert f"job {checkout.job()} RUNNING" in status.stdout
    checkout.finished(first)
    assert checkout.weights() == undisturbed and len(checkout.submitted()) == 1


def test_time_limits(checkout: Checkout, undisturbed: str) -> None:
    """A limit of one minute, too short for the training; SLURM, which looks every 30 s, warns well before it."""
    params = (checkout.folder / "params.yaml").read_text()
    launcher = checkout.pretrain(SCFS_LAUNCH_MINUTES="1", SCFS_LAUNCH_WARNING_SECONDS="50")
    checkout.reach(10)
    checkout.stall(checkout.job(), signal.SIGUSR2)
    said = checkout.finished(launcher, seconds=300)
    assert "stopped by SIGUSR2" in said and "is queued again" in said
    limits = list(checkout.folder.glob("runs/jobs/small-*/*-time-limits.json"))
    assert [json.loads(path.read_text()) for path in limits] == [said.count("is queued again")]
    assert (checkout.folder / "params.yaml").read_text() == params and checkout.weights() == undisturbed
