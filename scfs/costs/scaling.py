"""`scfs scaling`: images per second on many GPUs, and what binds them. Computed; measured is the CPU's part alone.

A step of B images on P GPUs takes

    max(work of the GPU on B / P images + collectives, B / P images read by the cores of a GPU)

where the work of a GPU is the longest of its operations, its memory traffic and its kernel launches, and collectives
add to it: BatchNorm waits for its statistics, and what the backward pass hides of the gradients' sums is not known.
Operations, traffic, kernels and messages are counted on the real modules, without computing anything.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple
from unittest.mock import Mock, patch

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from scfs.config.pretrain import Pretrain
from scfs.config.study import Study
from scfs.costs.gpu import GPU, PEAK, SHARE
from scfs.costs.loading import cpu_seconds
from scfs.costs.plan import BATCH, Images, meta_step
from scfs.errors import ScfsError
from scfs.io.progress import log
from scfs.runtime import collectives
from scfs.runtime.world import World
from scfs.views.colour_batched import Colour

IMAGENET = 1_281_167
"""Images of its training split."""
IMAGE_BYTES = 110_000
"""Of a typical file of it."""
WORTHWHILE = 1.5
"""A doubling of the GPUs that speeds up less is past the knee."""


@dataclass(frozen=True)
class Cluster:
    """What a GPU has. Defaults: an H100 SXM among 8 in a node, as its maker states it where nothing else is said."""

    flops: float = SHARE * PEAK
    """Operations per second: the tenth of the peak that `scfs plan` counts with."""
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
    """unsourced: what each doubling of the nodes adds to it."""

    def seconds(self, message: "Message", processes: int) -> float:
        """Of one collective, as a ring."""
        if processes == 1:
            return 0.0
        nodes = math.ceil(processes / self.gpus_per_node)
        share = (processes - 1) / processes
        volume = message.bytes * (2 * share if message.kind == "all_reduce" else processes - 1)
        speed = self.within if nodes == 1 else min(self.within, self.between)
        return self.latency + self.hop * math.log2(nodes) + volume / speed


class Message(NamedTuple):
    """A collective of one step."""

    kind: str
    """all_reduce, or all_gather."""
    bytes: int
    """That each process gives."""


@dataclass(frozen=True)
class Work:
    """What one step takes, whatever computes it."""

    flops: float
    """Operations per image."""
    traffic: float
    """Bytes per image that kernels read and write, none fused with another, in bf16."""
    kernels: int
    """Launched per step up to the optimiser, whatever its size."""
    messages: tuple[Message, ...]
    """Collectives per step; the kinds and their sizes do not depend on the number of processes."""


class _Counted(TorchDispatchMode):
    """Elements that operations read and write, and the number of operations; views are none."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.operations += 1
            touched = torch.utils._pytree.tree_leaves((args, kwargs, result))
            self.elements += sum(value.numel() for value in touched if isinstance(value, Tensor))
        return result


@contextmanager
def pretended(processes: int) -> Iterator[list[Message]]:
    """Be one of several processes that are not there: collectives are noted, and leave what they are given."""
    noted: list[Message] = []

    def note(kind: str, given: int) -> Callable[..., Mock]:
        def collective(*tensors: Any, **_: Any) -> Mock:
            noted.append(Message(kind, tensors[given].numel() * tensors[given].element_size()))
            return Mock()  # some are waited for

        return collective

    with (
        patch.object(collectives, "_world", World(0, processes)),
        patch.object(dist, "all_reduce", note("all_reduce", 0)),
        patch.object(dist, "all_gather", note("all_gather", 1)),
    ):
        yield noted


@cache
def work(settings: Pretrain) -> Work:
    """Count one step; its parts (`accumulate`) are taken for one."""
    log("counting operations, traffic and messages of a step")
    with FlopCounterMode(display=False) as flops, _Counted() as counted:
        meta_step(settings)
    with pretended(2) as noted:
        meta_step(settings)
    return Work(flops.get_total_flops() / BATCH, 2 * counted.elements / BATCH, counted.operations, tuple(noted))


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
        """Of the step."""
        return max(max(self.operations, self.memory, self.launches) + self.network, self.cores)

    @property
    def images_per_second(self) -> float:
        """Of all GPUs together."""
        return self.batch / self.seconds

    @property
    def binds(self) -> str:
        """What takes longest; the network where it takes more than the GPUs' own work."""
        parts = {
            "operations": self.operations,
            "memory": self.memory,
            "launches": self.launches,
            "network": self.network,
            "cores": self.cores,
        }
        if self.cores >= self.seconds:
            return "cores"
        del parts["cores"]
        return max(parts, key=lambda name: parts[name])


def step(of: Work, batch: int, processes: int, cluster: Cluster, cpu: float) -> Step:
    """Of `batch` images on `processes` GPUs; `cpu`: seconds of a core per image that it reads."""
    share = math.ceil(batch / processes)
    return Step(
        processes,
        batch,
        operations=share * of.flops / cluster.flops,
        memory=share * of.traffic / cluster.memory,
        launches=of.kernels * cluster.launch,
        network=sum(cluster.seconds(message, processes) for message in of.messages),
        cores=share * cpu / cluster.cores,
    )


def knee(of: Work, batch: int, cluster: Cluster, cpu: float) -> Step:
    """The most GPUs (a power of two, at most one per image) to which the last doubling was worthwhile."""
    best = step(of, batch, 1, cluster, cpu)
    while 2 * best.processes <= batch:
        doubled = step(of, batch, 2 * best.processes, cluster, cpu)
        if doubled.images_per_second < WORTHWHILE * best.images_per_second:
            break
        best = doubled
    return best


def hours(images: int, epochs: int, images_per_second: float) -> float:
    """Of computing."""
    return images * epochs / images_per_second / 3600


def describe(settings: Pretrain, images: int, gpus: list[int], cluster: Cluster, cpu: float, source: str) -> str:
    """Text: a table of the GPUs asked for, the knee, and what the numbers rest on."""
    of = work(settings.model_copy(update={"seed": 0, "dataset": "", "split": ""}))
    lines = [
        f"{settings.method}, {settings.backbone}, batch {settings.batch}, {images:,} images, {settings.epochs} epochs:"
        " computed, not measured",
        f"per image: {of.flops / 1e9:,.1f} GFLOP, {of.traffic / 1e9:,.2f} GB of memory traffic,"
        f" {cpu * 1e3:.2f} ms of a core ({source})",
        f"per step: {of.kernels:,} kernels, {len(of.messages)} collectives,"
        f" {sum(message.bytes for message in of.messages) / 1e6:,.0f} MB from each GPU",
        "",
        f"{'GPUs':>6}{'images/s':>10}{'hours':>9}{'of linear':>11}{'ms/step':>9}{'network':>9}  binds",
    ]
    one = step(of, settings.batch, 1, cluster, cpu)
    for number in gpus:
        if number > settings.batch:
            lines.append(f"{number:>6}  more than the {settings.batch} images of a batch")
            continue
        found = step(of, settings.batch, number, cluster, cpu)
        rate = found.images_per_second
        lines.append(
            f"{number:>6}{rate:>10,.0f}{hours(images, settings.epochs, rate):>9,.1f}"
            f"{rate / one.images_per_second / number:>11.0%}{found.seconds * 1e3:>9,.1f}"
            f"{found.network * 1e3:>9,.1f}  {found.binds}"
        )
    last = knee(of, settings.batch, cluster, cpu)
    lines += [
        "",
        f"knee: {last.processes} GPUs, {last.images_per_second:,.0f} images/s, which read"
        f" {last.images_per_second * IMAGE_BYTES / 1e9:,.1f} GB/s; twice as many are less than {WORTHWHILE:g} times as"
        " fast, or more than the batch has images",
        "",
        "assumptions:",
        f"- a GPU: {GPU}, {cluster.flops / 1e12:,.0f} TFLOP/s ({cluster.flops / PEAK:.0%} of its peak), memory"
        f" {cluster.memory / 1e12:.2f} TB/s, a kernel every {cluster.launch * 1e6:.0f} us, {cluster.cores} cores to"
        " read images",
        f"- {cluster.gpus_per_node} GPUs in a node, {cluster.within / 1e9:,.0f} GB/s; between nodes"
        f" {cluster.between / 1e9:,.0f} GB/s per GPU; a collective takes {cluster.latency * 1e6:.0f} us, and"
        f" {cluster.hop * 1e6:.0f} more for each doubling of the nodes",
        "- collectives are rings and hide behind nothing; no kernel is fused with another; disks keep up",
    ]
    return "\n".join(lines)


def report(
    study: Study | None, run: str | None, gpus: str, colour: str, cpu_ms: float | None, options: dict[str, Any]
) -> str:
    """Text about a run of a study; without one about the SCFS runs of Table 1.

    Args:
        study: of the run.
        run: its name.
        gpus: numbers of GPUs, with commas between them.
        colour: who augments: "cpu", or "device" (and "auto").
        cpu_ms: milliseconds of a core per image; None: from the benchmarks' history, or measured.
        options: fields of `Cluster`; None stands for its default.

    Raises:
        ScfsError: `gpus` is no list of numbers, or the run is not trained.
    """
    try:
        numbers = [int(number) for number in gpus.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise ScfsError(f"--gpus {gpus}: must be numbers from 1 on, such as 1,8,32")
    if study is None or run is None:
        trained = [(Pretrain(dataset="imagenet", batch=b, epochs=e), IMAGENET) for b, e in ((256, 200), (1024, 800))]
    else:
        settings = study.run(run)
        if not settings.epochs:
            raise ScfsError(f"run {run}: epochs = 0: nothing is trained")
        trained = [(settings, Images(study).number(settings.dataset, settings.split))]
    cluster = Cluster(**{name: value for name, value in options.items() if value is not None})
    texts = []
    for settings, images in trained:
        cost = (cpu_ms / 1e3, "given") if cpu_ms is not None else cpu_seconds(settings.views, _who(colour))
        texts.append(describe(settings, images, numbers, cluster, *cost))
    return "\n\n\n".join(texts)


def _who(colour: str) -> Colour:
    return "cpu" if colour == "cpu" else "device"
