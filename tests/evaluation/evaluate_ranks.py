"""Evaluations as processes of their own, alone or several, and what each of them has read and trained.

Run as a program, in the folder that has data and weights: `evaluate_ranks.py TASK OUT`.
"""

import os
import socket
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter

from scfs import paths
from scfs.config.evaluation import Knn
from scfs.config.protocol import Evaluation
from scfs.data.image_set import ImageSet
from scfs.data.opening import open_split
from scfs.errors import ScfsError
from scfs.evaluation import features, knn
from scfs.evaluation.features import FrozenEncoder, clean_view, extract
from scfs.evaluation.probe import LrGrid
from scfs.evaluation.run import evaluate
from scfs.runtime import collectives
from scfs.weights.store import load_backbone

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {"dataset": "colours", "resize": 36, "crop": 32}
PROBE: dict[str, Any] = {**SMALL, "batch": 12, "epochs": 2, "seeds": [3, 4]}
SWEEP: dict[str, Any] = {"lr_sweep": [0.001, 0.1, 3.0, 30.0], "validation": 0.3}
PROTOCOLS: dict[str, dict[str, Any]] = {
    "knn": {**SMALL, "kind": "knn", "dataset": "scenes", "k": [1, 20, 30], "report_k": 20},
    "layers": {**SMALL, "kind": "layers", "k": [3], "report_k": 3},
    "linear": {**PROBE, "kind": "linear", "dataset": "scenes", "lr": 0.3},
    "linear, swept": {**PROBE, **SWEEP, "kind": "linear"},
    "linear_cached": {**PROBE, "kind": "linear_cached", "lr": 0.3},
    "linear_cached, swept": {**PROBE, **SWEEP, "kind": "linear_cached"},
    "attention": {**SMALL, "kind": "attention", "dataset": "scenes", "local_crop": 32, "figure_images": 2},
    "class_probabilities": {**SMALL, "kind": "class_probabilities", "local_size": 32, "crops": 2, "figure_images": 2},
}


def cut_small() -> None:
    """Several forward passes in a block, and more blocks than processes though there are few images."""
    features.FORWARD_BATCH, features.BLOCK, knn.QUERIES = 5, 13, 4


def measure(name: str, out: Path, **changes: Any) -> None:
    protocol = TypeAdapter(Evaluation).validate_python({**PROTOCOLS[name], **changes})
    evaluate(protocol, paths.weights("toy"), "toy", out / f"{name}.json", threads=1, device="cpu")


def everything(out: Path) -> None:
    """All evaluations in one meeting of the processes; beside the results what each has done."""
    read, finish = ImageSet.read, LrGrid.result
    done: dict[str, Any] = {}

    def noting_read(images: ImageSet, row: int) -> bytes:
        done["read"].append(f"{images.split}/{images.paths[row]}")
        return read(images, row)

    def noting_result(grid: LrGrid, *arguments: Any) -> Any:
        own = [*collectives.round_robin(grid.reported), *collectives.round_robin(grid.choosing)]
        done["trained"] = [(each.peak, each.weight.detach(), each.bias.detach()) for each in own]
        return finish(grid, *arguments)

    ImageSet.read, LrGrid.result = noting_read, noting_result  # type: ignore[method-assign]
    with collectives.process_group(CPU) as world:
        collectives.process_group = lambda _: nullcontext(world)
        for name in PROTOCOLS:
            done = {"read": []}
            measure(name, out / f"rank{world.rank}")
            torch.save(done, out / f"{name}-{world.rank}.pt")
        done = {"read": []}
        encoder = FrozenEncoder(load_backbone(paths.weights("toy"))[0], CPU)
        images, show = open_split(paths.manifest("colours"), "train"), clean_view(Knn(kind="knn", **SMALL))
        done["features"] = extract(encoder, images, ["layer2", features.FEATURE], show)
        torch.save(done, out / f"features-{world.rank}.pt")


def with_a_bad_image(out: Path) -> None:
    """The process whose block holds a certain image cannot read it."""
    read = ImageSet.read
    ImageSet.read = lambda images, row: read(images, row)[: 60 if row == 33 else None]  # type: ignore[method-assign]
    measure("linear", out, dataset="colours")


def with_another_protocol(out: Path) -> None:
    measure("knn", out, crop=32 - int(os.environ["RANK"]))


def start(task: str, folder: Path, out: Path, size: int) -> list[subprocess.Popen[str]]:
    """Start `size` processes in a folder."""
    from warm import warm_programs  # not where this file is the program

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    if size > 1:
        common |= {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [
        subprocess.Popen(
            [str(warm_programs() / "warm-python"), __file__, task, str(out)],
            cwd=folder,
            env=common | ({"RANK": str(rank), "LOCAL_RANK": str(rank)} if size > 1 else {}),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]


def end(processes: list[subprocess.Popen[str]]) -> tuple[list[int], list[str]]:
    """Wait for all: their exit codes, and what each wrote on stderr."""
    try:
        errors = [process.communicate(timeout=300)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], errors


if __name__ == "__main__":
    torch.set_num_threads(1)
    cut_small()
    tasks = {"all": everything, "bad image": with_a_bad_image, "other protocol": with_another_protocol}
    try:
        tasks[sys.argv[1]](Path(sys.argv[2]))
    except ScfsError as failure:
        sys.exit(f"scfs: {failure}")
