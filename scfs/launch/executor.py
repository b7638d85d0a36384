"""Jobs by Submitit, which is imported nowhere else: SLURM jobs of many nodes, and processes of this machine."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from submitit import helpers
from submitit.core.utils import DelayedSubmission, JobPaths, pickle_load
from submitit.local.local import LocalExecutor, LocalJob
from submitit.slurm.slurm import SlurmExecutor, SlurmJob

from scfs.errors import ScfsError
from scfs.launch.container import inside
from scfs.launch.payload import REQUEST, Payload
from scfs.launch.settings import Launch

NEVER = 100 * 365 * 24 * 60
"""Minutes after which a local job would end."""


class HeldSlurmExecutor(SlurmExecutor):
    """Submitit's executor, whose sbatch holds the launcher's lock too.

    A launcher that is killed while sbatch runs leaves it behind. The next launcher must not ask SLURM for the job
    before that sbatch has ended, or it would submit a second one.
    """

    def __init__(self, lock: IO[str], *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._lock = lock

    def _submit_command(self, command: str) -> SlurmJob[Any]:
        file = self.folder / "job.sh"
        file.write_text(self._make_submission_file_text(command, "job"))
        sbatch = ["sbatch", str(file)]
        # In a session of its own: Ctrl-C would end it at a moment when the job may exist already, unknown to us.
        run = subprocess.run(
            sbatch, capture_output=True, text=True, pass_fds=[self._lock.fileno()], start_new_session=True
        )
        if run.returncode:
            raise ScfsError(f"sbatch {file}: {run.stderr.strip() or run.stdout.strip()}")
        job = self._get_job_id_from_submission_command(run.stdout)
        return SlurmJob(folder=self.folder, job_id=job, tasks=list(range(self._num_tasks())))


def submit(payload: Payload, name: str, comment: str, settings: Launch, lock: IO[str]) -> str:
    """Submit a SLURM job.

    Args:
        payload: what its processes do.
        name: of the job, as squeue shows it.
        comment: by which the next launcher finds it.
        settings: nodes, partition and the like.
        lock: the launcher's open lock.

    Returns:
        The job's number.

    Raises:
        ScfsError: sbatch refuses it, or is not there.
    """
    work = payload.folder / "work.pkl"
    delayed = DelayedSubmission(payload)
    delayed.set_timeout(settings.minutes, payload.time_limits)
    delayed.dump(work)
    logs = payload.folder / "logs"
    logs.mkdir(exist_ok=True)
    try:
        executor = HeldSlurmExecutor(lock, logs, max_num_timeout=payload.time_limits, python=_python(payload, settings))
    except RuntimeError:
        raise ScfsError("executor = slurm: srun not found on this machine; allowed here: none, local") from None
    executor.update_parameters(**_parameters(payload, name, comment, settings, work))
    with helpers.clean_env():  # inside another job, sbatch would take over that job's SLURM_* as its options
        return str(executor.submit(payload).job_id)


def _parameters(payload: Payload, name: str, comment: str, settings: Launch, work: Path) -> dict[str, Any]:
    optional = {key: getattr(settings, key) for key in ("partition", "account", "qos", "constraint")}
    if settings.gpus_per_node:
        optional["gpus_per_node"] = settings.gpus_per_node
    if settings.memory_gb:
        optional["mem"] = f"{int(settings.memory_gb * 1024)}MB"
    exports = [f"export {key}={shlex.quote(value)}" for key, value in _environment(payload).items()]
    requeue = [_requeue_when_asked(payload)] if settings.image else []
    return {
        **{key: value for key, value in optional.items() if value is not None},
        "job_name": name,
        "comment": comment,
        "nodes": settings.nodes,
        "ntasks_per_node": settings.processes,
        "cpus_per_task": settings.cpus_per_process,
        "time": settings.minutes,
        "signal_delay_s": settings.warning_seconds,
        # requeue: after the death of a node and after a preemption SLURM itself starts the job again.
        "additional_parameters": {"requeue": True, **settings.sbatch},
        # One process that ends with an error ends all: the others would wait for it in a collective, until the time
        # limit. And since 22.05 srun does not take over sbatch's cpus-per-task.
        "srun_args": ["--kill-on-bad-exit=1", f"--cpus-per-task={settings.cpus_per_process}", *settings.srun],
        "setup": [*exports, *_pickle(work), *requeue, *settings.setup],
    }


def _environment(payload: Payload) -> dict[str, str]:
    """The copied package comes first, and the working folder, which may be a checkout, does not count."""
    return {
        "PYTHONPATH": str(payload.code),
        "PYTHONSAFEPATH": "1",
        "OMP_NUM_THREADS": str(payload.work.threads),
    }


def _pickle(work: Path) -> list[str]:
    """Shell lines: give the job what it loads, which Submitit does only after sbatch has come back.

    A launcher that is killed in between would leave a job that waits for its pickle and fails.
    """
    submitted = f'{shlex.quote(str(work.parent / "logs"))}/"$SLURM_JOB_ID"_submitted.pkl'
    return [f"[ -e {submitted} ] || cp {shlex.quote(str(work))} {submitted}"]


def _requeue_when_asked(payload: Payload) -> str:
    """Shell line: an image has no scontrol, so the job's script, which runs outside, asks for the first process."""
    request = f'{shlex.quote(str(payload.folder))}/"$SLURM_JOB_ID"{REQUEST}'
    return f'rm -f {request}; (until [ -e {request} ]; do sleep 1; done; scontrol requeue "$SLURM_JOB_ID") &'


def _python(payload: Payload, settings: Launch) -> str:
    """Command of Python, in the image where there is one; srun runs it on every node."""
    if settings.image is None:
        return shlex.quote(sys.executable)
    return shlex.join(inside(settings, ["python"]))


def ended_well(folder: Path, job: str) -> bool:
    """Whether every process of a job has left Submitit's note that it came to its end."""
    processes = {path.name.split("_")[1] for path in (folder / "logs").glob(f"{job}_*_log.err")}
    notes = [JobPaths(folder / "logs", job, int(rank)).result_pickle for rank in processes]
    return bool(notes) and all(path.is_file() and pickle_load(path)[0] == "success" for path in notes)


class LocalProcesses:
    """The processes of a local job."""

    def __init__(self, payload: Payload, settings: Launch) -> None:
        """Start them."""
        logs = payload.folder / "logs"
        executor = LocalExecutor(logs)
        executor.update_parameters(
            tasks_per_node=settings.processes, gpus_per_node=settings.gpus_per_node, timeout_min=NEVER
        )
        with helpers.clean_env(), _variables(_environment(payload)), _ignoring_interrupts():
            job = executor.submit(payload)
        assert isinstance(job, LocalJob) and job._process is not None
        self.id, self._process = job.job_id, job._process

    def ended(self) -> int | None:
        """Status of Submitit's controller; None while it is alive."""
        return self._process.poll()

    def stop(self, patience: float) -> None:
        """Ask the processes to save and end; after `patience` seconds they are killed with this one."""
        self._process.terminate()
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()


@contextmanager
def _variables(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    """What is started meanwhile ignores Ctrl-C by inheritance: Submitit's controller would kill after a second."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
