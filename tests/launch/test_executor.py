"""The parts of Submitit that docs/upgrades.md lists, with commands of SLURM that only note what they are asked."""

import os
import time
from pathlib import Path

import pytest
from repository import ROOT
from submitit.core.utils import DelayedSubmission

from scfs.errors import ScfsError
from scfs.launch.executor import LocalProcesses, ended_well, submit
from scfs.launch.logs import STARTED, lines_of, rank_log
from scfs.launch.payload import Payload, StageCall
from scfs.launch.settings import Launch

SBATCH = """#!/bin/sh
echo "$1" > {folder}/arguments
cp "$2" {folder}/script
ls -l /proc/self/fd > {folder}/open
{end}
"""


def nothing() -> None:
    """Stand for a stage's function; a pickle holds its name."""


@pytest.fixture
def payload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Payload:
    """A payload, and a machine with SLURM's commands."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    command(tmp_path / "srun", "#!/bin/sh\n")
    return Payload(StageCall(nothing, {}, 3, 0), tmp_path / "a job", tmp_path / "code", 60.0, 2)


def command(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def submitted(payload: Payload, end: str, settings: Launch) -> str:
    folder = payload.folder.parent
    command(folder / "sbatch", SBATCH.format(folder=folder, end=end))
    payload.folder.mkdir(exist_ok=True)
    with (folder / "lock").open("a+") as lock:
        return submit(payload, "small", "scfs:small-0:token", settings, lock)


def test_a_job_is_submitted_with_its_options_its_pickle_and_the_lock(payload: Payload) -> None:
    settings = Launch(executor="slurm", nodes=2, gpus_per_node=4, memory_gb=1.5, minutes=10, srun=["--cpu-bind=none"])
    assert submitted(payload, "echo '123;cluster'", settings) == "123"
    folder = payload.folder.parent
    assert (folder / "arguments").read_text() == "--parsable\n"
    assert str(folder / "lock") in (folder / "open").read_text()  # sbatch holds it while it runs
    script = (folder / "script").read_text()
    for option in ("job-name=small", "nodes=2", "ntasks-per-node=4", "gpus-per-node=4", "mem=1536MB", "time=10"):
        assert f"#SBATCH --{option}\n" in script
    for option in ("comment=scfs:small-0:token", "requeue", "signal=USR2@120"):
        assert f"#SBATCH --{option}\n" in script.replace('"', "").replace("'", "")
    assert "partition" not in script and "account" not in script
    assert "--kill-on-bad-exit=1 --cpus-per-task=1 --cpu-bind=none" in script
    assert "-m submitit.core._submit" in script and "export OMP_NUM_THREADS=3\n" in script
    pickles = [payload.folder / "payload.pkl", payload.folder / "logs" / "123_submitted.pkl"]
    assert f"""cp '{pickles[0]}' '{pickles[1].parent}'/"$SLURM_JOB_ID"_submitted.pkl\n""" in script
    for pickle in pickles:  # what a job loads, whether or not its launcher lived long enough
        assert DelayedSubmission.load(pickle).function == payload


def test_what_sbatch_refuses_is_one_line(payload: Payload) -> None:
    with pytest.raises(ScfsError, match=r"^sbatch .*job\.sh: invalid partition$"):
        submitted(payload, "echo invalid partition >&2; exit 1", Launch(executor="slurm"))


def test_without_slurm_the_executor_is_refused(payload: Payload, monkeypatch: pytest.MonkeyPatch) -> None:
    (payload.folder.parent / "srun").unlink()
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(ScfsError, match="executor = slurm: srun not found on this machine"):
        submitted(payload, "", Launch(executor="slurm"))


def test_a_job_has_ended_well_if_all_its_processes_say_so(tmp_path: Path) -> None:
    import pickle

    logs = tmp_path / "logs"
    logs.mkdir()
    assert not ended_well(tmp_path, "7")
    for rank in (0, 1):
        (logs / f"7_{rank}_log.err").touch()
    (logs / "7_0_result.pkl").write_bytes(pickle.dumps(("success", None)))
    assert not ended_well(tmp_path, "7")
    (logs / "7_1_result.pkl").write_bytes(pickle.dumps(("error", "boom")))
    assert not ended_well(tmp_path, "7")
    (logs / "7_1_result.pkl").write_bytes(pickle.dumps(("success", None)))
    assert ended_well(tmp_path, "7")


def test_a_local_job_has_the_files_and_the_number_that_we_rely_on(tmp_path: Path) -> None:
    processes = LocalProcesses(Payload(StageCall(dict, {}, 1, 0), tmp_path, ROOT), Launch(executor="local"))  # type: ignore[arg-type]
    end = time.monotonic() + 120
    command = Path("/proc", processes.id, "cmdline")
    while not (words := command.read_bytes()):  # the kernel sets it a moment after Popen has returned
        assert time.monotonic() < end
    assert b"submitit.local" in words
    while not processes.ended():
        assert time.monotonic() < end
        time.sleep(0.1)
    log = rank_log(tmp_path, processes.id, 0)
    assert STARTED in log.read_text() and lines_of(log) == []
    assert ended_well(tmp_path, processes.id)
