"""Jobs by Submitit, which is imported nowhere else: SLURM jobs of many nodes, and processes of this machine."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

from submitit import helpers
from submitit.core.utils import DelayedSubmission, JobPaths, environment_variables, pickle_load
from submitit.local.local import LocalExecutor
from submitit.slurm.slurm import SlurmExecutor, SlurmJob

from scfs.errors import ScfsError, refusing
from scfs.launch.container import inside
from scfs.launch.logs import ranks
from scfs.launch.payload import REQUEST, Payload
from scfs.launch.settings import Launch
from scfs.runtime.stop_signals import handling

NO_TIME_LIMIT = 100 * 365 * 24 * 60
"""Minutes that Submitit gives a local job, which has no time limit: a hundred years."""

DEFER_WARNING = (
    "import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2]);"
    " os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)
"""Code of a Python that replaces itself by one with the arguments that follow. SLURM's warning, SIGUSR2, stays pending
for that one until it unblocks the signal."""


class LockedSlurmExecutor(SlurmExecutor):
    """Submitit's executor for SLURM, whose sbatch process holds the launcher's lock too.

    A launcher that is killed while sbatch runs leaves sbatch behind. The next launcher must not ask SLURM for the job
    before that sbatch has ended, or it would submit a second one. docs/upgrades.md lists the two methods of Submitit
    that this depends on.
    """

    def __init__(self, lock: IO[str], *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._lock = lock

    def _submit_command(self, command: str) -> SlurmJob[Any]:
        file = self.folder / "job.sh"
        file.write_text(self._make_submission_file_text(command, "job"))
        sbatch = ["sbatch", "--parsable", str(file)]  # it prints the job's number, and ;CLUSTER where there are several
        # In a session of its own: Ctrl-C would end it at a moment when the job may exist already, unknown to us.
        run = subprocess.run(
            sbatch, capture_output=True, text=True, pass_fds=[self._lock.fileno()], start_new_session=True
        )
        if run.returncode:
            raise ScfsError(f"sbatch {file}: {run.stderr.strip() or run.stdout.strip()}")
        return SlurmJob(folder=self.folder, job_id=run.stdout.strip().partition(";")[0])


def submit(payload: Payload, name: str, comment: str, settings: Launch, lock: IO[str]) -> str:
    """Submit a SLURM job.

    Args:
        payload: what each of its processes calls.
        name: name of the job, as squeue shows it.
        comment: comment of the job, by which the next launcher finds it.
        settings: nodes, partition and the like.
        lock: the launcher's open lock file.

    Returns:
        The job's number.

    Raises:
        ScfsError: sbatch refuses it, or is not there.
    """
    pickle = payload.folder / "payload.pkl"
    delayed = DelayedSubmission(payload)
    delayed.set_timeout(settings.minutes, payload.time_limits)
    delayed.dump(pickle)
    logs = payload.folder / "logs"
    logs.mkdir(exist_ok=True)
    with refusing("executor = slurm: srun not found on this machine", RuntimeError, advice="; allowed: none, local"):
        executor = LockedSlurmExecutor(lock, logs, max_num_timeout=payload.time_limits, python=_python(settings))
    executor.update_parameters(**_sbatch_parameters(payload, name, comment, settings, pickle))
    with helpers.clean_env():  # inside another job, sbatch would take over that job's SLURM_* as its options
        return str(executor.submit(payload).job_id)


def _sbatch_parameters(payload: Payload, name: str, comment: str, settings: Launch, pickle: Path) -> dict[str, Any]:
    exports = [f"export {key}={shlex.quote(value)}" for key, value in _environment(payload).items()]
    requeue = [_requeue_when_asked(payload)] if settings.image else []
    return {
        **{key: getattr(settings, key) for key in ("partition", "account", "qos", "constraint")},  # None: the cluster's
        "gpus_per_node": settings.gpus_per_node or None,
        "mem": f"{int(settings.memory_gb * 1024)}MB" if settings.memory_gb else None,
        "job_name": name,
        "comment": comment,
        "nodes": settings.nodes,
        "ntasks_per_node": settings.processes,
        "cpus_per_task": settings.cpus_per_process,
        "time": settings.minutes,
        "signal_delay_s": settings.warning_seconds,
        # requeue: after the death of a node and after a preemption SLURM itself starts the job again.
        "additional_parameters": {"requeue": True, **settings.sbatch},
        # --kill-on-bad-exit: one process that ends with an error ends all; the others would wait for it in a
        # collective, until the time limit. --cpus-per-task: since SLURM 22.05 srun does not take over sbatch's.
        "srun_args": ["--kill-on-bad-exit=1", f"--cpus-per-task={settings.cpus_per_process}", *settings.srun],
        "setup": [*exports, _provide_pickle(pickle), *requeue, *settings.setup],
    }


def _environment(payload: Payload) -> dict[str, str]:
    """Return variables by which a process imports the copied package, and not the working folder's."""
    return {"PYTHONPATH": str(payload.code), "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": str(payload.call.threads)}


def _provide_pickle(pickle: Path) -> str:
    """Return a shell line that puts the payload where the job loads it.

    Submitit does that only after sbatch has come back; a launcher that is killed in between would leave a job that
    waits for its pickle and fails.
    """
    submitted = f'{shlex.quote(str(pickle.parent / "logs"))}/"$SLURM_JOB_ID"_submitted.pkl'
    return f"[ -e {submitted} ] || cp {shlex.quote(str(pickle))} {submitted}"


def _requeue_when_asked(payload: Payload) -> str:
    """Return a shell line that queues the job again when a process asks for it.

    An image has no scontrol; the job's script runs outside of the image.
    """
    request = f'{shlex.quote(str(payload.folder))}/"$SLURM_JOB_ID"{REQUEST}'
    return f'rm -f {request}; (until [ -e {request} ]; do sleep 1; done; scontrol requeue "$SLURM_JOB_ID") &'


def _python(settings: Launch) -> str:
    """Return the command of Python that srun runs on every node, in the image if there is one.

    A warning that comes while it still imports would kill it: it waits until the payload listens.
    """
    python = [sys.executable] if settings.image is None else inside(settings, ["python"])
    return shlex.join([*python, "-ISc", DEFER_WARNING])


def ended_well(folder: Path, job: str) -> bool:
    """True if every process of a job left a result that says success; Submitit writes it when the payload returns."""
    results = [JobPaths(folder / "logs", job, rank).result_pickle for rank in ranks(folder, job)]
    return bool(results) and all(path.is_file() and pickle_load(path)[0] == "success" for path in results)


class LocalProcesses:
    """The processes of a local job, under Submitit's controller process."""

    def __init__(self, payload: Payload, settings: Launch) -> None:
        """Start the processes."""
        executor = LocalExecutor(payload.folder / "logs")
        executor.update_parameters(
            tasks_per_node=settings.processes, gpus_per_node=settings.gpus_per_node, timeout_min=NO_TIME_LIMIT
        )
        # The processes that are started here ignore Ctrl-C, on which Submitit's controller would kill the others.
        ignoring = handling(signal.SIG_IGN, signal.SIGINT)
        with helpers.clean_env(), environment_variables(**_environment(payload)), ignoring:
            self._job = executor.submit(payload)
        self.id = self._job.job_id
        """Name of the job, which is the controller's process number (docs/upgrades.md)."""

    def ended(self) -> bool:
        """True if all processes have ended."""
        return self._job.done()

    def stop(self, patience: float) -> None:
        """Ask the processes to save and end; after `patience` seconds, kill the controller.

        The processes then end with this one, which they watch.
        """
        os.kill(int(self.id), signal.SIGTERM)
        end = time.monotonic() + patience
        while not self.ended():
            if time.monotonic() > end:
                os.kill(int(self.id), signal.SIGKILL)
            time.sleep(0.1)
