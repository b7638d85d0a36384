"""A checkout of the project with a study, a small one unless said otherwise, and what its jobs on the cluster are doing."""

import contextlib
import hashlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml
from repository import command_environment, copy_repository

HEAD = {"hidden": 16, "bottleneck": 8, "prototypes": 16}
STUDY = {
    "study": "small",
    "scale": "a network of eight channels that trains for seconds: it shows that nothing is lost, not what is learnt",
    "torch_threads": 1,
    "data": {
        "scenes": {
            "source": "garment-scenes",
            "seed": 0,
            "splits": {"train": {"scenes": 64}, "val": {"scenes": 20, "part": "test"}},
        }
    },
    "pretrain": {
        "dataset": "scenes",
        "split": "train",
        "backbone": "narrow_resnet18",
        "layers": ["layer4"],
        "epochs": 6,
        "batch": 16,
        "precision": "fp32",
        "views": {"global_size": 32, "local_size": 24, "local_number": 2},
        "head": HEAD,
        "search_head": {"width": 8, "hidden": 8, "output": 8},
        "optimizer": {"warmup_epochs": 1},
    },
    "runs": {"small": {"method": "scfs"}},
    "evaluate": {"knn": {"kind": "knn", "dataset": "scenes", "resize": 32, "crop": 32, "k": [3], "report_k": 3}},
    "tables": {
        "main": {
            "title": "Small",
            "columns": [{"label": "k-NN", "evaluation": "knn", "value": "top1"}],
            "rows": [{"label": "SCFS", "runs": ["small"]}],
        }
    },
}
STEPS = 24
PROFILE = "workflow/profiles/slurm"
BY_PROFILE = ["--profile", PROFILE, "--slurm-init-seconds-before-status-checks", "2"]
"""Snakemake's executor otherwise looks after its jobs, and whether it is to end, every 40 s."""


@dataclass(frozen=True)
class Checkout:
    folder: Path
    run: str = "small"

    @classmethod
    def make(cls, folder: Path) -> "Checkout":
        copy_repository(folder)
        (folder / "params.yaml").write_text(yaml.safe_dump(STUDY))
        return cls(folder)

    def environment(self, **more: str) -> dict[str, str]:
        kept = {key: value for key, value in command_environment(self.folder).items() if key != "SCFS_LAUNCH"}
        return {**kept, "SCFS_SAVE_EVERY": "1", "OMP_NUM_THREADS": "1", **more}

    def start(self, *command: str, **more: str) -> subprocess.Popen[str]:
        """A command whose output lies in `said.txt`; in a session of its own, as from another terminal."""
        settings = {"EXECUTOR": "slurm", "NODES": "2", "POLL_SECONDS": "1", "WARNING_SECONDS": "30", "MINUTES": "10"}
        launch = {f"SCFS_LAUNCH_{key}": value for key, value in settings.items()}
        with (self.folder / "said.txt").open("a") as said:
            return subprocess.Popen(
                command, cwd=self.folder, env=self.environment(**{**launch, **more}), stdout=said, stderr=said,
                text=True, start_new_session=True, preexec_fn=obey_signals,
            )  # fmt: skip

    def pretrain(self, **more: str) -> subprocess.Popen[str]:
        return self.start("scfs", "pretrain", "--run", self.run, "--workers", "0", **more)

    def pretrain_here(self) -> None:
        """By two processes of this machine, without the cluster."""
        environment = self.environment(SCFS_LAUNCH_EXECUTOR="local", SCFS_LAUNCH_PROCESSES_PER_NODE="2")
        command = ["scfs", "pretrain", "--run", self.run, "--workers", "0"]
        subprocess.run(command, cwd=self.folder, env=environment, check=True)

    def snakemake(self, **more: str) -> subprocess.Popen[str]:
        return self.start("snakemake", *BY_PROFILE, f"checkpoints/{self.run}.safetensors", **more)

    @property
    def said(self) -> str:
        return (self.folder / "said.txt").read_text()

    def finished(self, process: subprocess.Popen[str], code: int = 0, seconds: float = 480) -> str:
        """Wait for a command, hold it to its exit code, and return all that was said so far."""
        assert process.wait(seconds) == code, self.said[-3000:]
        return self.said

    def weights(self) -> str:
        return hashlib.sha256(self.exported.read_bytes()).hexdigest()

    @property
    def exported(self) -> Path:
        return self.folder / "checkpoints" / f"{self.run}.safetensors"

    def step(self) -> int:
        """Step of the newest checkpoint."""
        names = (path.name for path in self.folder.glob(f"runs/{self.run}-*/checkpoints/step-*.pt"))
        return max((int(name.split("-")[1]) for name in names), default=0)

    def reach(self, step: int, seconds: float = 120) -> int:
        """Wait for a checkpoint at this step or later."""
        return self.until(lambda: self.step() >= step, seconds) and self.step()

    def until(self, ready: Callable[[], object], seconds: float = 120) -> bool:
        end = time.monotonic() + seconds
        while not ready():
            assert time.monotonic() < end, self.said
            time.sleep(0.1)
        return True

    def unlock(self) -> None:
        """Clear the lock of a Snakemake that was killed, as soon as nothing that it started lives on."""
        command = ["scfs", "unlock"]
        self.until(lambda: subprocess.run(command, cwd=self.folder, env=self.environment()).returncode == 0, 60)

    def job(self) -> str:
        """The job that was submitted last."""
        self.until(lambda: re.search(r"submitted job (\d+)", self.said))
        return re.findall(r"submitted job (\d+)", self.said)[-1]

    def submitted(self) -> list[str]:
        """Every job that this checkout has had."""
        return sorted(
            path.name.split("_")[0] for path in self.folder.glob(f"runs/jobs/{self.run}-*/logs/*_submitted.pkl")
        )

    def pids(self, job: str) -> dict[int, int]:
        """Process of each rank of a running job."""
        found = {}
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                entries = os.fsdecode(path.read_bytes()).split("\0")
                command = (path.parent / "cmdline").read_bytes()
            except OSError:
                continue
            values = dict(entry.partition("=")[::2] for entry in entries)
            is_rank = b"submitit.core._submit" in command and not {b"srun", b"bash"} & set(command.split(b"\0"))
            if is_rank and values.get("SLURM_JOB_ID") == job and "SLURM_PROCID" in values:
                found[int(values["SLURM_PROCID"])] = int(path.parent.name)
        return found

    @contextlib.contextmanager
    def paused(self, job: str) -> Iterator[None]:
        """Stop the two processes of a running job for as long as the block takes, so that it cannot end before."""
        self.until(lambda: len(self.pids(job)) == 2)
        pids = self.pids(job).values()
        _send(pids, signal.SIGSTOP)
        try:
            yield
        finally:
            _send(pids, signal.SIGCONT)

    def stall(self, job: str, number: signal.Signals, seconds: float = 45) -> None:
        """Keep a running job's processes from going on, as a long step would, until this signal waits for them."""
        pids = self.pids(job).values()
        _send(pids, signal.SIGSTOP)
        end = time.monotonic() + seconds  # one that came a moment before is not seen to wait
        while time.monotonic() < end and not all(_has_ended_or_waits_for(pid, number) for pid in pids):
            time.sleep(0.1)
        _send(pids, signal.SIGCONT)


def _send(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _has_ended_or_waits_for(pid: int, number: signal.Signals) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True
    waiting = re.search(r"^ShdPnd:\s*(\w+)", status, re.MULTILINE)
    return not waiting or bool(int(waiting[1], 16) >> (number - 1) & 1)


def obey_signals() -> None:
    """As in a terminal: a process that was started by nohup or in the background passes on that it ignores them."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)


def live_jobs() -> list[str]:
    said = subprocess.run(["squeue", "--noheader", "--format=%i"], capture_output=True, text=True, check=True).stdout
    return said.split()
