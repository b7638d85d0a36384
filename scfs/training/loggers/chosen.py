"""Loggers that --log-to names: JSON lines in RUN FOLDER/scalars.jsonl, and servers whose package is installed.

The id of a run on a server lies in the run folder, so that a resumed or requeued training goes on with it. Both servers
are configured by their own environment variables (WANDB_PROJECT, MLFLOW_TRACKING_URI, ...).
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from scfs.io.atomic import write_text
from scfs.training.loggers.registry import CHOSEN


@CHOSEN.add("jsonl")
class JsonLines:
    """Writes a line for each point: its step, and all values by name."""

    def __init__(self, folder: Path, first_step: int) -> None:
        """Go on at `first_step`: later lines are dropped, and one that a killed process left half written."""
        path = folder / "scalars.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        whole = [line for line in lines if line.endswith("}\n")]
        write_text(path, "".join(line for line in whole if json.loads(line)["step"] < first_step))
        self._file = path.open("a", buffering=1)

    def log(self, step: int, values: dict[str, float]) -> None:
        """Add a line."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _run_id(file: Path, make: Callable[[], str]) -> str:
    """Return the run's id on a server, which the first start makes."""
    if not file.is_file():
        write_text(file, make())
    return file.read_text()


@CHOSEN.add("wandb")
class WeightsAndBiases:
    """Sends points to Weights & Biases, from a process of its own."""

    def __init__(self, folder: Path, first_step: int) -> None:
        """Go on with the run; what it has already stays, and is the same again."""
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        quiet = wandb.Settings(console="off", init_timeout=30)
        project, run = os.environ.get("WANDB_PROJECT", "scfs"), _run_id(folder / "wandb.id", lambda: uuid4().hex)
        self._run = wandb.init(project=project, id=run, resume="allow", dir=folder, settings=quiet)

    def log(self, step: int, values: dict[str, float]) -> None:
        """Add a point to the curve of each name."""
        self._run.log(values, step=step)

    def close(self) -> None:
        """Send what is left."""
        self._run.finish()


@CHOSEN.add("mlflow")
class MLflow:
    """Sends points to MLflow; without a network it gives up after seconds, not after its own minutes."""

    def __init__(self, folder: Path, first_step: int) -> None:
        """Go on with the run; what it has already is the same again."""
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        import mlflow

        self._metric, self._client = mlflow.entities.Metric, mlflow.MlflowClient()
        experiment = os.environ.get("MLFLOW_EXPERIMENT_ID", "0")
        self._run = _run_id(folder / "mlflow.id", lambda: self._client.create_run(experiment).info.run_id)

    def log(self, step: int, values: dict[str, float]) -> None:
        """Add a point to the curve of each name."""
        now = time.time_ns() // 10**6
        self._client.log_batch(self._run, [self._metric(*value, now, step) for value in values.items()])

    def close(self) -> None:
        """Mark the run as ended."""
        self._client.set_terminated(self._run)
