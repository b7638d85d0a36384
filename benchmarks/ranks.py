"""`python -m benchmarks.ranks`: the cost model of scfs.costs.machine beside real runs of 1, 2 and 4 processes (gloo).

Each process has the same number of images. The model gets, measured in the same meeting, what a step takes while all
processes compute but send nothing, and gloo's latency and bandwidth between them; it predicts the step of all together.
"""

import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest.mock import Mock, patch

import torch
import torch.distributed as dist

from scfs.config.pretrain import Pretrain
from scfs.costs.counting import training_work
from scfs.costs.machine import Cluster, step
from scfs.runtime import collectives
from scfs.training.loop import Pretraining
from scfs.views.loader import Batch

SIZES = (1, 2, 4)
IMAGES, STEPS = 8, 8
SMALL, LARGE = 4, 4_000_000
"""Bytes of the messages that gloo is measured with."""
MESSAGES = 100
"""For its latency."""
CPU = torch.device("cpu")


def settings(processes: int) -> Pretrain:
    """A small network, and as many images for each process."""
    views = {"global_size": 64, "local_size": 32, "local_number": 4}
    head = {"hidden": 256, "bottleneck": 64, "prototypes": 1024}
    values = {"dataset": "noise", "backbone": "narrow_resnet18", "batch": IMAGES * processes, "precision": "fp32"}
    return Pretrain.model_validate(values | {"views": views, "head": head})


def noise(seed: int) -> Batch:
    """A process's part of a batch."""
    draw = torch.Generator().manual_seed(seed)
    crops = [
        torch.randint(0, 256, (number * IMAGES, size, size, 3), dtype=torch.uint8, generator=draw)
        for number, size in ((2, 64), (4, 32))
    ]
    return Batch(0, torch.arange(IMAGES), *crops)


def measure() -> dict[str, float]:
    """In one process of a meeting: seconds of a step with and without its messages, of a message, of a byte of it."""
    torch.set_num_threads(1)
    with collectives.process_group(CPU) as world:
        chosen = settings(world.size)
        training = Pretraining(chosen, 100, CPU, "fp32", "")
        batch = noise(world.rank)
        silent, whole = [], []
        for _ in range(STEPS):  # in turn, as the machine changes
            silent.append(seconds(partial(without_messages, training.train_step), batch))
            whole.append(seconds(training.train_step, batch))
        small, large = (
            statistics.median(seconds(collectives.all_reduce, torch.zeros(number // 4)) for _ in range(30))
            for number in (SMALL, LARGE)
        )
        found = {"step": statistics.median(whole[1:]), "silent": statistics.median(silent[1:])}
        return {**found, "latency": _latency(), "per_byte": max(large - small, 1e-9) / (LARGE - SMALL)}


def seconds(call: Callable[[Any], object], argument: object) -> float:
    """Of a call that all processes begin together."""
    collectives.barrier()
    started = time.perf_counter()
    call(argument)
    taken = time.perf_counter() - started
    collectives.barrier()  # who is done early leaves its core to the others, but begins nothing
    return taken


def _latency() -> float:
    """Seconds that a small message adds between two pieces of work, as long as those between a step's messages.

    Back to back, messages find processes that are awake, and that wait for none which is still computing.
    """
    matrix, own = torch.randn(512, 512), torch.zeros(SMALL // 4)

    def pieces(message: Callable[[torch.Tensor], object]) -> None:
        for _ in range(MESSAGES):
            matrix @ matrix
            message(own)

    rounds = [(seconds(pieces, collectives.all_reduce), seconds(pieces, torch.clone)) for _ in range(STEPS)]
    return statistics.median(sending - silent for sending, silent in rounds) / MESSAGES


def without_messages(call: Callable[[Any], object], argument: object) -> None:
    """A call whose collectives end at once and leave to each process its own."""

    def gather(everyone: list[torch.Tensor], own: torch.Tensor) -> None:
        for place in everyone:
            place.copy_(own)

    with patch.object(dist, "all_reduce", lambda *_, **__: Mock()), patch.object(dist, "all_gather", gather):
        call(argument)


def meeting(size: int, module: str = "benchmarks.ranks") -> dict[str, Any]:
    """What the first of `size` processes measures, each of them `python -m MODULE --measure`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = os.environ | {"OMP_NUM_THREADS": "1", "WORLD_SIZE": str(size)}
    common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", module, "--measure"],
            env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    said = [process.communicate(timeout=600)[0] for process in processes]
    return dict(json.loads(said[0]))


def cluster_of(found: dict[str, float], size: int) -> Cluster:
    """This machine, in the model's terms, while `size` processes share it."""
    ring = 2 * (size - 1) / size
    return Cluster(
        flops=training_work(settings(1)).flops * IMAGES / found["silent"],
        memory=float("inf"),
        launch=0,
        gpus_per_node=size,
        within=ring / found["per_byte"] if size > 1 else float("inf"),
        latency=found["latency"],
    )


def main() -> None:
    """Print a table: measured beside computed."""
    print("| processes | step without messages | with them | computed | of it collectives | measured / computed |")
    print("|---|---|---|---|---|---|")
    for size in SIZES:
        found = meeting(size)
        computed = step(training_work(settings(size), messages=True), IMAGES * size, size, cluster_of(found, size))
        times = [found["silent"], found["step"], computed.seconds, computed.network]
        said = " | ".join(f"{value * 1e3:.0f} ms" for value in times)
        print(f"| {size} | {said} | {found['step'] / computed.seconds:.2f} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["--measure"]:
        print(json.dumps(measure()))
    else:
        main()
