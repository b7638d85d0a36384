"""A pre-training as one SLURM job of two nodes: its end, its failures, its requeues, and the launchers that follow it."""

import json
import os
import signal
import subprocess

from checkout import STEPS, Checkout, live_jobs
from cluster import Cluster

ACCOUNTING = False


def test_two_nodes_train_as_two_processes_of_one_machine(checkout: Checkout, undisturbed: str) -> None:
    said = checkout.finished(checkout.pretrain())
    assert "batch 16 = 2 processes x 8 images, lr 0.1 x batch / 256 = 0.00625, 6 epochs = 24 steps" in said
    assert "images/s" in said and "GB of disk" in said
    assert "submitted job" in said and "2 processes with up to 8 images of each batch" in said
    assert "RUNNING" in said and "epoch 6:" in said  # rank 0's own log
    assert checkout.weights() == undisturbed
    record = json.loads((checkout.folder / "results/runs/small/pretrain.run.json").read_text())
    assert record["processes"] == 2 and record["git"] and record["lock_sha256"]


def test_a_killed_process_is_named_and_a_requeue_resumes_where_all_saved_on_the_old_code(
    checkout: Checkout, undisturbed: str
) -> None:
    launcher = checkout.pretrain()
    checkout.reach(5)
    os.kill(checkout.pids(checkout.job())[1], signal.SIGKILL)
    assert "FAILED: rank 1" in checkout.finished(launcher, code=1)
    assert live_jobs() == []
    killed = checkout.step()
    launcher = checkout.pretrain()
    checkout.reach(killed + 5)
    (checkout.folder / "scfs" / "losses.py").write_text("raise SystemExit('a broken checkout')\n")
    (checkout.folder / "params.yaml").write_text("study: broken\n")
    before = checkout.step()
    subprocess.run(["scancel", "--signal=USR2", checkout.job()], check=True)
    said = checkout.finished(launcher)
    assert f"resuming at step {killed} of {STEPS}" in said
    stopped = int(said.split("stopped by SIGUSR2 at step ")[1].split()[0])
    assert before <= stopped < STEPS and f"resuming at step {stopped} of {STEPS}" in said
    assert "is queued again" in said and len(checkout.submitted()) == 2  # the killed one and this one
    assert checkout.weights() == undisturbed


def test_the_death_of_a_node(checkout: Checkout, cluster: Cluster, undisturbed: str) -> None:
    launcher = checkout.pretrain()
    checkout.reach(10)
    cluster.kill_node("n2")
    cluster.start_node("n2")
    checkout.finished(launcher)
    assert "resuming at step" in checkout.said and len(checkout.submitted()) == 1
    assert checkout.weights() == undisturbed


def test_signals_to_the_launcher(checkout: Checkout, undisturbed: str) -> None:
    """TERM cancels; HUP and KILL leave the job, which the next launcher adopts; a second launcher is refused."""
    launcher = checkout.pretrain()
    checkout.reach(10)
    launcher.terminate()
    assert "SIGTERM: job" in checkout.finished(launcher, code=1)
    assert live_jobs() == []
    saved = checkout.step()
    launcher = checkout.pretrain()
    checkout.reach(saved + 1)
    launcher.send_signal(signal.SIGHUP)
    assert "SIGHUP: job" in checkout.finished(launcher, code=1)
    job = checkout.job()
    assert live_jobs() == [job]
    with checkout.paused(job):  # on busy cores it would have ended before the next launcher looks for it
        adopted = f"job {job} of this run is there already"
        launcher = checkout.pretrain()
        checkout.until(lambda: adopted in checkout.said)
        launcher.kill()
        launcher.wait()
        assert live_jobs() == [job]
        launcher = checkout.pretrain()
        checkout.until(lambda: checkout.said.count(adopted) == 2)
    checkout.finished(launcher)
    assert len(checkout.submitted()) == 2  # the cancelled one and this one
    assert checkout.weights() == undisturbed


def test_srun_in_an_allocation_and_a_wrong_setting(checkout: Checkout, undisturbed: str) -> None:
    train = checkout.start(
        "srun", "--nodes=2", "--ntasks=2", "scfs", "pretrain", "--run", "small", "--workers", "0",
        SCFS_LAUNCH_EXECUTOR="none",
    )  # fmt: skip
    wrong = checkout.start("scfs", "pretrain", "--run", "small", SCFS_LAUNCH_PARTITION="nowhere", SCFS_LAUNCH_NODES="1")
    assert wrong.wait(60) == 1
    assert "scfs: sbatch" in checkout.said and "invalid partition" in checkout.said and "Traceback" not in checkout.said
    checkout.finished(train)
    assert checkout.weights() == undisturbed
