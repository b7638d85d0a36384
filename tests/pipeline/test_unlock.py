"""Snakemake's lock is cleared only when nothing that it started lives on; without a cluster nobody is asked for one."""

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from scfs.errors import ScfsError
from scfs.launch import slurm
from scfs.pipeline.unlock import unlock


@pytest.fixture
def locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that a killed Snakemake has left, on a machine with a cluster whose jobs the tests choose."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(slurm, "live_jobs", lambda: [])
    lock = tmp_path / ".snakemake" / "locks" / "0.output.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    return lock


def test_a_lock_that_nobody_needs_is_cleared(locked: Path) -> None:
    assert "cleared" in unlock() and not locked.exists()
    assert "nothing to do" in unlock()


@pytest.mark.parametrize("holder", ["runs/jobs/small-0123456789abcdef/lock", "runs/small-0123456789abcdef/lock"])
def test_a_launcher_or_a_training_keeps_it(locked: Path, holder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(holder).parent.mkdir(parents=True)
    with Path(holder).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ScfsError, match=f"not cleared: {holder} still works"):
            unlock()
        assert locked.exists()
        adoptable = slurm.ClusterJob("7", "scfs:small-fedcba9876543210:abc", "RUNNING", "n1", Path.cwd())
        monkeypatch.setattr(slurm, "live_jobs", lambda: [adoptable])
        if "jobs" in holder:  # its launcher lives: nobody else may follow the job
            with pytest.raises(ScfsError, match="not cleared"):
                unlock()
        else:  # the run's own job holds it, and the next launcher adopts that
            assert "cleared" in unlock()


def test_a_job_of_snakemake_keeps_it_and_one_of_another_folder_does_not(
    locked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = slurm.ClusterJob("8", "rule_evaluate", "PENDING", "Priority", locked.parents[2])
    monkeypatch.setattr(slurm, "live_jobs", lambda: [job])
    with pytest.raises(ScfsError, match="not cleared: job 8 still works"):
        unlock()
    monkeypatch.setattr(slurm, "live_jobs", lambda: [job._replace(folder=Path("/elsewhere"))])
    assert "cleared" in unlock()


def test_a_stage_in_this_folder_keeps_it(locked: Path) -> None:
    script = locked.parents[2] / "snakemake"
    script.write_text("import time; print('started', flush=True); time.sleep(60)")
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout and process.stdout.readline()  # until then its command line may not be there yet
            with pytest.raises(ScfsError, match=rf"snakemake \(process {process.pid}\) still works"):
                unlock()
        finally:
            process.kill()


def test_a_machine_without_a_cluster_has_no_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert slurm.live_jobs_here() == []
    with pytest.raises(ScfsError, match="squeue: not found; the executor slurm needs SLURM's commands"):
        slurm.live_jobs()


def test_squeues_lines_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    squeue = tmp_path / "squeue"
    squeue.write_text("#!/bin/sh\necho '7|RUNNING|n[1-2]|/a/folder|scfs:small-0:token'\necho '8|PENDING|(None)|/b|'\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    running, waiting = slurm.live_jobs()
    assert running == slurm.ClusterJob("7", "scfs:small-0:token", "RUNNING", "n[1-2]", Path("/a/folder"))
    assert (waiting.id, waiting.comment, waiting.folder) == ("8", "", Path("/b"))
