"""Faults at random moments of a pre-training under Snakemake: no job is orphaned or doubled, and no bit is lost.

In CI three of them, with seeds that are written here; `make soak` tries each kind of fault SCFS_SOAK times, appends
what happened to the file that SCFS_SOAK_TABLE names, and when started again leaves out what stands there of this code.
"""

import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable

import pytest
import soak
from checkout import STEPS, Checkout, live_jobs
from cluster import Cluster

ACCOUNTING = True
CI = [("interrupt", 1), ("hangup", 2), ("kill", 3)]
EARLIEST, LATEST = 0, 18  # step; 0: from the first moment on, before there is a job

Snakemake = subprocess.Popen[str]


def interrupt(checkout: Checkout, cluster: Cluster, snakemake: Snakemake) -> None:
    """Ctrl-C goes to all processes of the terminal; the job is cancelled."""
    os.killpg(snakemake.pid, signal.SIGINT)


def terminate(checkout: Checkout, cluster: Cluster, snakemake: Snakemake) -> None:
    os.killpg(snakemake.pid, signal.SIGTERM)


def hangup(checkout: Checkout, cluster: Cluster, snakemake: Snakemake) -> None:
    """The ssh session is gone."""
    os.killpg(snakemake.pid, signal.SIGHUP)


def kill(checkout: Checkout, cluster: Cluster, snakemake: Snakemake) -> None:
    """Snakemake alone; its launcher notices."""
    snakemake.kill()


def kill_all(checkout: Checkout, cluster: Cluster, snakemake: Snakemake) -> None:
    os.killpg(snakemake.pid, signal.SIGKILL)


def kill_rank(checkout: Checkout, cluster: Cluster, snakemake: Snakemake) -> None:
    pids = checkout.pids(checkout.job())
    checkout.until(lambda: pids or snakemake.poll() is not None or pids.update(checkout.pids(checkout.job())))
    if pids:
        os.kill(pids[max(pids)], signal.SIGKILL)


def requeue(checkout: Checkout, cluster: Cluster, snakemake: Snakemake) -> None:
    subprocess.run(["scontrol", "requeue", checkout.job()], check=False)


def warn(checkout: Checkout, cluster: Cluster, snakemake: Snakemake) -> None:
    """As before a time limit."""
    subprocess.run(["scancel", "--signal=USR2", checkout.job()], check=False)


def lose_node(checkout: Checkout, cluster: Cluster, snakemake: Snakemake) -> None:
    checkout.job()
    cluster.kill_node("n2")
    cluster.start_node("n2")


FAULTS: dict[str, Callable[[Checkout, Cluster, Snakemake], None]] = {
    function.__name__: function
    for function in (interrupt, terminate, hangup, kill, kill_all, kill_rank, requeue, warn, lose_node)
}
TRACES = {
    "interrupt": r"SIGINT: job \d+ is cancelled",
    "terminate": r"SIGTERM: job \d+ is cancelled",
    "hangup": r"(SIGHUP|is gone): job \d+ goes on",
    "kill": r"is gone: job \d+ goes on",
    "kill_all": r"job \d+ of this run is there already|already at its last step",  # or it ended meanwhile
    "kill_rank": r"FAILED: rank 1",
    "requeue": r"resuming at step",
    "warn": r"stopped by SIGUSR2",
    "lose_node": r"resuming at step",
}
"""What is said when the fault has met a training, not a moment before there was one."""


@pytest.mark.parametrize(("fault", "seed"), soak.cases(FAULTS, CI))
def test_nothing_is_lost(fault: str, seed: int, checkout: Checkout, cluster: Cluster, undisturbed: str) -> None:
    started = time.monotonic()
    moment = random.Random(f"{fault} {seed}")
    snakemake = checkout.snakemake()
    step = moment.randint(EARLIEST, LATEST)
    if step < 10:  # somewhere in the start of Snakemake, of the launcher, or of the job
        time.sleep(moment.uniform(0, 12))
    else:
        checkout.reach(step)
    FAULTS[fault](checkout, cluster, snakemake)
    snakemake.wait(240)
    attempts = 1
    while not checkout.exported.exists() or snakemake.returncode:
        assert attempts < 6 and len(live_jobs()) <= 1, checkout.said[-3000:]
        checkout.unlock()
        snakemake = checkout.snakemake()
        snakemake.wait(240)
        attempts += 1
    checkout.until(lambda: not live_jobs(), 60)
    assert checkout.weights() == undisturbed
    assert checkout.step() == STEPS
    if step >= 10:
        assert re.search(TRACES[fault], checkout.said), checkout.said[-3000:]
    jobs = len(checkout.submitted())
    seconds = round(time.monotonic() - started, 1)
    soak.note(fault, seed, step=step, jobs=jobs, seconds=seconds)
