"""`python -m benchmarks.overlap [MBIT ...]`: what it saves to sum gradients beside the backward pass.

Two processes (gloo) in a network of their own, which the kernel slows down (tc, as root), train a small network in two
ways that take turns: gradients are summed in buckets beside the backward pass, or all at once after it.
"""

import argparse
import json
import os
import subprocess
import sys

import torch

from benchmarks.measure import Spread
from benchmarks.ranks import CPU, meeting, noise, seconds, settings
from scfs.runtime import collectives
from scfs.runtime.gradient_allreduce import GradientAllReduce
from scfs.training.loop import Pretraining

SPEEDS = (2000, 1000, 500)
"""Megabits per second, both directions together."""
BUCKETS = {"beside": 2**20, "after": 2**40}
"""Bytes. The network has a tenth of a ResNet-50's parameters, and smaller buckets accordingly."""
ROUNDS = 10
SLOW = "ip link set lo up && tc qdisc add dev lo root tbf rate {mbit}mbit burst 256kb latency 1s && exec {command}"


def measure() -> dict[str, list[float]]:
    """Seconds of each step, by when the gradients are summed."""
    torch.set_num_threads(1)
    with collectives.process_group(CPU) as world:
        batch = noise(world.rank)
        trainings = {}
        for name, bucket in BUCKETS.items():
            trainings[name] = Pretraining(settings(world.size), 100, CPU, "fp32", "")
            trainings[name].gradient_allreduce = GradientAllReduce(trainings[name].model.student.parameters(), bucket)
        found: dict[str, list[float]] = {name: [] for name in trainings}
        for _ in range(ROUNDS + 1):
            for name, training in trainings.items():
                found[name].append(seconds(training.train_step, batch))
        return {name: steps[1:] for name, steps in found.items()}


def main(speeds: list[int]) -> None:
    """Print a table."""
    print("| network | step, sums after | sums beside | after / beside (least to most) |")
    print("|---|---|---|---|")
    for mbit in speeds:
        command = SLOW.format(mbit=mbit, command=f"{sys.executable} -m benchmarks.overlap --inside")
        done = subprocess.run(["unshare", "--net", "sh", "-c", command], stdout=subprocess.PIPE, text=True)
        if done.returncode:
            sys.exit("overlap: no slowed network (see above): it needs root, unshare, and tc and ip of iproute2")
        found = json.loads(done.stdout)
        after, beside = (Spread.of(found[name]).middle * 1e3 for name in ("after", "beside"))
        ratio = Spread.of([a / b for a, b in zip(found["after"], found["beside"], strict=True)])
        ratios = "{:.2f} ({:.2f} to {:.2f})".format(*ratio)
        print(f"| {mbit} Mbit/s | {after:.0f} ms | {beside:.0f} ms | {ratios} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["--measure"]:
        print(json.dumps(measure()))
    elif sys.argv[1:] == ["--inside"]:
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
        print(json.dumps(meeting(2, "benchmarks.overlap")))
    else:
        parser = argparse.ArgumentParser(prog="python -m benchmarks.overlap", description=__doc__)
        parser.add_argument("mbit", type=int, nargs="*", default=SPEEDS, help="megabits per second, both directions")
        main(list(parser.parse_args().mbit))
