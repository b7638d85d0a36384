"""`scfs plan`: the costs of a study. Computed from its settings by counting operations; nothing of it is measured."""

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from scfs import paths
from scfs.config.pretrain import Pretrain
from scfs.config.study import Study
from scfs.costs.counting import KEPT, backbone_bytes, forward_flops, training_work
from scfs.costs.machine import GPU, MEMORY, PEAK, SHARE
from scfs.data.manifest import numbers_of_images
from scfs.io.templates import filled_in
from scfs.io.text_table import aligned
from scfs.pipeline import jobs
from scfs.training.memory import USABLE, step_memory

RESULT_BYTES, ARRAY_BYTES, ROW_BYTES = 100_000, 10_000_000, 100
"""unsourced: orders of magnitude of a result, of a figure's arrays, and of an image's row in a manifest."""


@dataclass(frozen=True)
class Cost:
    """The cost of a job."""

    rule: str
    name: str
    """Run, data set or evaluation and run."""
    flops: float = 0
    """Operations, a multiplication and an addition counting as two."""
    disk: float = 0
    """Bytes."""
    per_image: float = 0
    """Operations per image of a training."""
    settings: Pretrain | None = None
    """Settings of a training."""


@dataclass(frozen=True)
class Plan:
    """Costs of every job of a study, and what they rest on."""

    study: str
    costs: list[Cost]
    assumptions: list[str] = field(default_factory=list)


class Images:
    """Numbers of images of a study's splits, and how they are known."""

    def __init__(self, study: Study) -> None:
        self.study, self.notes = study, dict[str, None]()

    def number(self, dataset: str, split: str) -> int:
        """Return the images of a split: as prepared, else as the study says, else 0."""
        config, manifest = self.study.data[dataset], paths.manifest(dataset)
        known, note = config.known_images.get(split), f"{dataset}/{split}: "
        # Opening a manifest might make missing images again. Exact numbers need none.
        prepared = numbers_of_images(manifest) if config.known_from and manifest.is_file() else {}
        if split in prepared:
            return prepared[split]
        if known is None:
            self.notes[note + f"number of images unknown before `scfs prepare {dataset}`: counted as 0"] = None
        elif config.known_from:
            self.notes[note + f"{known:,} images, as {config.known_from} (not prepared yet)"] = None
        return known or 0


def plan(study: Study) -> Plan:
    """Compute the costs of every job of a study."""
    images = Images(study)
    costs = []
    for job in jobs.jobs(study):
        rule = job.stage.split("-")[0]
        if rule.startswith("prepare"):
            rows = sum(images.number(job.key, split) for split in study.data[job.key].splits)
            costs.append(Cost(rule, job.key, disk=rows * ROW_BYTES))
        elif rule == "inspect":
            costs.append(Cost(rule, job.key, disk=RESULT_BYTES + ARRAY_BYTES))
        elif rule == "pretrain":
            costs.append(_training(study, job.key, images))
        elif rule in ("import_weights", "convert"):
            costs.append(Cost(rule, job.key, disk=backbone_bytes(study.settings(job.key).backbone)))
        elif rule in jobs.EVALUATING:
            costs.append(_evaluation(study, rule, job, images))
        else:
            costs.append(Cost(rule, job.stage, disk=RESULT_BYTES))
    return Plan(study.study, costs, list(images.notes))


def _training(study: Study, run: str, images: Images) -> Cost:
    settings = study.run(run)
    work = training_work(settings)
    number = images.number(settings.dataset, settings.split) // settings.batch * settings.batch * settings.epochs
    disk, trained = work.weights + work.states, settings if settings.epochs else None
    return Cost("pretrain", run, work.flops * number, disk, work.flops if settings.epochs else 0, trained)


def _evaluation(study: Study, rule: str, job: jobs.Job, images: Images) -> Cost:
    name = job.stage.removeprefix(f"{rule}-")
    protocol, backbone = study.evaluate[name], study.settings(job.variables.get("run", job.key)).backbone
    passes = protocol.passes(partial(images.number, protocol.dataset), part="part" in job.variables)
    flops = sum(number * forward_flops(backbone, side) for number, side in passes)
    images.notes |= dict.fromkeys(protocol.assumptions)
    disk = float(RESULT_BYTES + (ARRAY_BYTES if protocol.leaves_arrays else 0))
    if protocol.stage != "evaluate" and passes:
        disk += KEPT * 2 * backbone_bytes(backbone)  # weights and their momentum
    return Cost(rule, f"{name} {job.key}", flops, disk)


def memory_table(found: Plan, memory: float) -> list[list[str]]:
    """List by training the GB that a step takes of a GPU and the largest part that fits; recomputed if not all does."""
    rows = [["training", "batch", "GPU GB", "fits", "recomputed", "fits"]]
    for name, settings in ((cost.name, cost.settings) for cost in found.costs if cost.settings):
        row, fitting = [name, str(settings.batch)], 0
        for recomputed in (False, True):
            if fitting < settings.batch:  # as each count takes seconds
                step = step_memory(settings, recomputed)
                fitting = step.largest_part(settings.batch, memory)
                row += [f"{step.of(settings.batch // settings.accumulate) / 1e9:,.1f}", str(fitting)]
        rows.append([*row, "", ""][:6])
    return rows


def describe(found: Plan, gpus: int, flops_per_second: float | None, memory: float = MEMORY) -> str:
    """Write a plan as text: by rule, by training, and what the numbers rest on; `memory`: bytes of a GPU."""
    speed = flops_per_second or SHARE * PEAK

    def row(costs: list[Cost], *first: str) -> list[str]:
        hours, disk = sum(cost.flops for cost in costs) / speed / 3600, sum(cost.disk for cost in costs)
        return [*first, f"{hours:,.1f}", f"{disk / 1e9:,.1f}"]

    rules = Counter(cost.rule for cost in found.costs)
    by_rule = [row([cost for cost in found.costs if cost.rule == rule], rule, str(rules[rule])) for rule in rules]
    by_rule += [row(found.costs, "total", str(len(found.costs)))]
    trained = [cost for cost in found.costs if cost.rule == "pretrain"]
    by_run = [row([cost], cost.name, f"{cost.per_image / 1e9:,.1f}") for cost in trained]
    text = filled_in(
        Path(__file__).with_name("plan.txt.j2"),
        study=found.study,
        by_rule="\n".join(aligned([["rule", "jobs", "GPU hours", "GB"], *by_rule])),
        by_run="\n".join(aligned([["training", "GFLOP/image", "GPU hours", "GB"], *by_run])),
        by_memory="\n".join(aligned(memory_table(found, memory))),
        memory=memory,
        usable=USABLE,
        days=sum(cost.flops for cost in found.costs) / speed / 3600 / gpus / 24,
        assumptions=found.assumptions,
        **{"gpus": gpus, "speed": speed, "given": flops_per_second, "peak": PEAK, "gpu": GPU, "kept": KEPT},
        **{"result_bytes": RESULT_BYTES, "array_bytes": ARRAY_BYTES, "row_bytes": ROW_BYTES},
    )
    return text.rstrip("\n")
