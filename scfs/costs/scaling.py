"""`scfs scaling`: images per second on many GPUs, and what limits them. Computed; measured is the CPU's part alone."""

from pathlib import Path
from typing import Any

from scfs.config.pretrain import Pretrain
from scfs.config.study import Study
from scfs.costs.counting import training_work
from scfs.costs.loading import cpu_seconds
from scfs.costs.machine import GPU, PEAK, WORTHWHILE, Cluster, scaling_limit, step
from scfs.costs.plan import Images
from scfs.errors import ScfsError
from scfs.io.templates import filled_in
from scfs.io.text_table import aligned
from scfs.views.colour_batched import Colour

IMAGENET = 1_281_167
"""Images of its training split."""
IMAGE_BYTES = 110_000
"""Bytes of a typical file of it."""


def describe(settings: Pretrain, images: int, gpus: list[int], cluster: Cluster, cpu: float, source: str) -> str:
    """Write a text: a table of the GPUs asked for, the scaling limit, and what the numbers rest on."""
    work, batch = training_work(settings, messages=True), settings.batch
    one, last = step(work, batch, 1, cluster, cpu), scaling_limit(work, batch, cluster, cpu)
    rows = [["GPUs", "images/s", "hours", "of linear", "ms/step", "network", "binds"]]
    for found in (step(work, batch, number, cluster, cpu) for number in gpus if number <= batch):
        rate, linear = found.images_per_second, found.processes * one.images_per_second
        hours = f"{images * settings.epochs / rate / 3600:,.1f}"
        milliseconds = [f"{seconds * 1e3:,.1f}" for seconds in (found.seconds, found.network)]
        rows.append([f"{found.processes}", f"{rate:,.0f}", hours, f"{rate / linear:.0%}", *milliseconds, found.limit])
    return filled_in(
        Path(__file__).with_name("scaling.txt.j2"),
        table="\n".join(aligned(rows, left=(6,))),
        **{"settings": settings, "images": images, "gpus": gpus, "work": work, "cpu": cpu, "source": source},
        **{"last": last, "cluster": cluster, "gpu": GPU, "peak": PEAK},
        **{"image_bytes": IMAGE_BYTES, "worthwhile": WORTHWHILE},
    )


def report(
    study: Study | None, run: str | None, gpus: str, colour: str, cpu_ms: float | None, options: dict[str, Any]
) -> str:
    """Write a text about a run of a study; without one about the SCFS runs of Table 1.

    Args:
        study: study of the run.
        run: its name.
        gpus: numbers of GPUs, with commas between them.
        colour: where crops are augmented: "cpu", or "device" (and "auto").
        cpu_ms: milliseconds of a core per image; None: from the benchmarks' history, or measured.
        options: fields of `Cluster`; None stands for its default.

    Raises:
        ScfsError: `gpus` is no list of numbers, or the run is not trained.
    """
    numbers = [int(number) if number.strip().isdecimal() else 0 for number in gpus.split(",")]
    if min(numbers) < 1:
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
        where: Colour = "cpu" if colour == "cpu" else "device"
        cost = (cpu_ms / 1e3, "given") if cpu_ms is not None else cpu_seconds(settings.views, where)
        texts.append(describe(settings, images, numbers, cluster, *cost))
    return "\n\n\n".join(texts)
