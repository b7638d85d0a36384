"""The cost model: the seconds that a training's counted work takes on a machine. No GPU has confirmed it.

A step of B images on P GPUs takes

    max(work of the GPU on B / P images + collectives, B / P images read by the cores of a GPU)

where the work of a GPU is the longest of its operations, its memory traffic and its kernel launches. Collectives add to
it: BatchNorm waits for its statistics, and how much of the gradients' sums the backward pass hides is not known.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

GPU = "H100 SXM"
PEAK = 989e12
"""Its dense bf16 operations per second, as its maker states them."""
MEMORY = 80e9
"""Its bytes of memory."""
SHARE = 0.1
"""unsourced: share of the peak that is planned with: 700 images/s of the paper's SCFS; 500 to 1000 are expected."""
CPU = 5e10
"""Operations per second of a process on a CPU: the demo's SCFS, 8 epochs of 6000 images at 0.7 GFLOP, took 679 s on one
core of an AMD EPYC (Turin) in bf16."""
WORTHWHILE = 1.5
"""A doubling of the GPUs that speeds up less is past the scaling limit."""


@dataclass(frozen=True)
class Work:
    """Work of one training step, whatever computes it."""

    flops: float
    """Operations per image, a multiplication and an addition counting as two."""
    traffic: float
    """Bytes per image that kernels read and write, none fused with another, in bf16."""
    kernels: int
    """Kernels launched per step up to the optimiser, whatever its size."""
    messages: tuple[tuple[str, int], ...]
    """Collectives per step: "all_reduce" or "all_gather", and the bytes that each process gives. Neither their number
    nor their sizes depend on the number of processes."""
    weights: int
    """Bytes of the exported weights."""
    states: int
    """Bytes of the states that a training keeps on the disk."""


@dataclass(frozen=True)
class Cluster:
    """A GPU and its network. Defaults: an H100 SXM among 8 in a node, as its maker states it unless said otherwise."""

    flops: float = SHARE * PEAK
    """Operations per second."""
    memory: float = 3.35e12
    """Bytes per second of its memory."""
    launch: float = 4e-6
    """unsourced: seconds until the next kernel can be launched, by a Python program."""
    gpus_per_node: int = 8
    """GPUs that NVLink joins."""
    cores: int = 8
    """unsourced: CPU cores that read images for a GPU."""
    within: float = 450e9
    """Bytes per second to the others of its node (NVLink, one direction)."""
    between: float = 25e9
    """unsourced: bytes per second to other nodes: one network card of 200 Gbit/s per GPU."""
    latency: float = 20e-6
    """unsourced: seconds of the smallest collective in a node."""
    hop: float = 10e-6
    """unsourced: seconds that each doubling of the nodes adds to it."""

    def network(self, messages: Iterable[tuple[str, int]], processes: int) -> float:
        """Return the seconds of some collectives, one after the other, as rings."""
        if processes == 1:
            return 0.0
        nodes = math.ceil(processes / self.gpus_per_node)
        speed = self.within if nodes == 1 else min(self.within, self.between)
        times_sent = {"all_reduce": 2 * (processes - 1) / processes, "all_gather": processes - 1}
        start = self.latency + self.hop * math.log2(nodes)
        return sum(start + times_sent[kind] * size / speed for kind, size in messages)


@dataclass(frozen=True)
class Step:
    """Seconds of one step on P GPUs, by what takes them."""

    processes: int
    batch: int
    operations: float
    memory: float
    launches: float
    network: float
    cores: float

    @property
    def seconds(self) -> float:
        """Seconds of the whole step."""
        return max(max(self.operations, self.memory, self.launches) + self.network, self.cores)

    @property
    def images_per_second(self) -> float:
        """Images per second of all GPUs together."""
        return self.batch / self.seconds

    @property
    def limit(self) -> str:
        """The part that takes longest: "cores" if the GPUs wait for them, else the longest of the others."""
        if self.cores >= self.seconds:
            return "cores"
        return max(("operations", "memory", "launches", "network"), key=lambda part: getattr(self, part))


def step(work: Work, batch: int, processes: int, cluster: Cluster, cpu: float = 0.0) -> Step:
    """Return the step of `batch` images on `processes` GPUs; `cpu`: seconds of a core per image that it reads."""
    share = math.ceil(batch / processes)
    return Step(
        processes,
        batch,
        operations=share * work.flops / cluster.flops,
        memory=share * work.traffic / cluster.memory,
        launches=work.kernels * cluster.launch,
        network=cluster.network(work.messages, processes),
        cores=share * cpu / cluster.cores,
    )


def scaling_limit(work: Work, batch: int, cluster: Cluster, cpu: float) -> Step:
    """Find the most GPUs (a power of two, at most one per image) to which the last doubling was worthwhile."""
    best = step(work, batch, 1, cluster, cpu)
    while 2 * best.processes <= batch:
        doubled = step(work, batch, 2 * best.processes, cluster, cpu)
        if doubled.images_per_second < WORTHWHILE * best.images_per_second:
            break
        best = doubled
    return best
