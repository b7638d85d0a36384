"""A fine-tuning as a process of its own, alone or one of several.

Run as a program: `finetune_ranks.py TASK WEIGHTS MANIFEST OUT PROTOCOL WORKERS`, in the folder that is to hold `runs/`.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from tuned import batch_of

from scfs.config.finetune import FineTune
from scfs.data.opening import open_split
from scfs.errors import ScfsError
from scfs.evaluation.finetune import accuracy, job, stage
from scfs.evaluation.finetune.crops import CropBatches
from scfs.evaluation.finetune.training import FineTuning
from scfs.runtime import collectives
from scfs.weights.store import load_backbone

CPU = torch.device("cpu")


def steps_in_float64(weights: Path, manifest: Path, protocol: FineTune) -> dict[str, Any]:
    """Terms of each step, and the state at the end."""
    data = CropBatches(open_split(manifest, "train"), protocol, collectives.world())
    training = FineTuning(protocol, 0.2, 0.01, load_backbone(weights)[0], data, CPU, "fp64", "")
    terms = [training.train_step(batch_of(data, step)) for step in range(data.steps)]
    return {"terms": [{k: v.item() for k, v in step.items()} for step in terms], "model": training.model.state_dict()}


def steps(weights: Path, manifest: Path, out: Path, protocol: FineTune, workers: int) -> None:
    with collectives.process_group(CPU) as world:
        torch.save(steps_in_float64(weights, manifest, protocol), out.with_name(f"rank{world.rank}.pt"))


def whole_stage(weights: Path, manifest: Path, out: Path, protocol: FineTune, workers: int) -> None:
    """The stage itself; beside the result the network that was measured."""

    def keeping(model: Any, *arguments: Any) -> dict[str, float]:
        if collectives.is_first():
            torch.save(model.state_dict(), out.with_suffix(".pt"))
        return accuracy.evaluate(model, *arguments)

    job.evaluate = keeping
    options: dict[str, Any] = {"threads": 1, "device": "cpu", "workers": workers, "save_every": 0}
    part = protocol.parts[0] if protocol.parts else None
    stage.finetune(protocol, "transfer", "toy", weights, manifest, out, part=part, **options)


def start(
    task: str, folder: Path, weights: Path, manifest: Path, protocol: FineTune, workers: int = 0, size: int = 1
) -> list[subprocess.Popen[str]]:
    """Start `size` processes in a folder; the result is to be `out.json` there."""
    from warm import warm_programs  # not where this file is the program

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder.mkdir(parents=True, exist_ok=True)
    common = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    if size > 1:
        common |= {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [
        str(warm_programs() / "warm-python"),
        __file__,
        task,
        str(weights),
        str(manifest),
        "out.json",
        protocol.model_dump_json(),
    ]
    return [
        subprocess.Popen(
            [*command, str(workers)],
            cwd=folder,
            env=common | ({"RANK": str(rank), "LOCAL_RANK": str(rank)} if size > 1 else {}),
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        for rank in range(size)
    ]


if __name__ == "__main__":
    torch.set_num_threads(1)
    _, task, weights, manifest, out, protocol, workers = sys.argv
    values = Path(weights), Path(manifest), Path(out), FineTune.model_validate_json(protocol), int(workers)
    try:
        {"steps": steps, "stage": whole_stage}[task](*values)
    except ScfsError as failure:
        sys.exit(f"scfs: {failure}")
