"""`python -m benchmarks.ranks`: the cost model of scfs.scaling beside real runs of 1, 2 and 4 processes (gloo).

Each process has the same number of images. The model gets the CPU time of a step of one process alone, and, measured in
the same meeting, the share of a core that each of the processes gets and gloo's latency and bandwidth between them; it
predicts the step of all together.
"""

import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from scfs import distributed
from scfs.config.pretrain import Pretrain
from scfs.scaling import Cluster, step, work
from scfs.training.loop import Training
from scfs.views.loader import Batch

SIZES = (1, 2, 4)
IMAGES, STEPS = 8, 8
SPIN = 2.0
"""Seconds."""
SMALL, LARGE = 4, 4_000_000
"""Bytes of the messages that gloo is measured with."""
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
    """In one process of a meeting: seconds of a step and of two messages, CPU time of a step, share of a core."""
    torch.set_num_threads(1)
    with distributed.joined(CPU) as world:
        chosen = settings(world.size)
        training = Training(chosen, 100, CPU, "fp32", "")
        batch = noise(world.rank)
        shares = [_share_of_a_core()]
        steps, used = zip(*(seconds(training.train_step, batch) for _ in range(STEPS)), strict=True)
        shares.append(_share_of_a_core())
        small, large = (
            statistics.median(seconds(distributed.total, torch.zeros(number // 4))[0] for _ in range(30))
            for number in (SMALL, LARGE)
        )
        found = {"step": statistics.median(steps[1:]), "cpu": statistics.median(used[1:]), "share": sum(shares) / 2}
        return {**found, "small": small, "large": large}


def seconds(call: Callable[[Any], object], argument: object) -> tuple[float, float]:
    """Of a call that all processes begin together, by the clock and by this process's CPU time."""
    distributed.wait_for_all()
    started, used = time.perf_counter(), time.process_time()
    call(argument)
    return time.perf_counter() - started, time.process_time() - used


def _share_of_a_core() -> float:
    """That each process gets while all compute; others may use the machine."""
    distributed.wait_for_all()
    started, used = time.perf_counter(), time.process_time()
    while time.perf_counter() - started < SPIN:
        pass
    own = (time.process_time() - used) / (time.perf_counter() - started)
    return distributed.total(torch.tensor(own)).item() / distributed.world().size


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


def cluster_of(cpu: float, found: dict[str, float], size: int) -> Cluster:
    """This machine, in the model's terms, while `size` processes share it; `cpu`: seconds of a step alone."""
    volume = 2 * (size - 1) / size * (LARGE - SMALL)
    return Cluster(
        flops=work(settings(1)).flops * IMAGES / cpu * found["share"],
        memory=float("inf"),
        launch=0,
        gpus_per_node=size,
        within=volume / max(found["large"] - found["small"], 1e-9) if size > 1 else float("inf"),
        latency=found["small"],
    )


def main() -> None:
    """Print a table: measured beside computed."""
    cpu = 0.0
    print("| processes | share of a core | step, measured | computed | of it collectives | measured / computed |")
    print("|---|---|---|---|---|---|")
    for size in SIZES:
        found = meeting(size)
        cpu = cpu or found["cpu"]
        computed = step(work(settings(size)), IMAGES * size, size, cluster_of(cpu, found, size), 0.0)
        said = f"{found['step'] * 1e3:.0f} ms | {computed.seconds * 1e3:.0f} ms | {computed.network * 1e3:.0f} ms"
        print(f"| {size} | {found['share']:.2f} | {said} | {found['step'] / computed.seconds:.2f} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["--measure"]:
        print(json.dumps(measure()))
    else:
        main()
