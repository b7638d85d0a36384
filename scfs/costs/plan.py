"""`scfs plan`: the costs of a study. Computed from its settings by counting operations; nothing of it is measured."""

from collections import Counter
from dataclasses import dataclass, field
from functools import partial

from scfs import paths
from scfs.config.study import Study
from scfs.costs.counting import KEPT, backbone_bytes, forward_flops, training_work
from scfs.costs.machine import GPU, PEAK, SHARE
from scfs.data.manifest import numbers_of_images
from scfs.io.text_table import aligned
from scfs.pipeline import jobs

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
    return Cost("pretrain", run, work.flops * number, work.weights + work.states, work.flops if settings.epochs else 0)


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


def describe(found: Plan, gpus: int, flops_per_second: float | None) -> str:
    """Write a plan as text: by rule, by training, and what the numbers rest on."""
    speed = flops_per_second or SHARE * PEAK

    def row(costs: list[Cost], *first: str) -> list[str]:
        hours, disk = sum(cost.flops for cost in costs) / speed / 3600, sum(cost.disk for cost in costs)
        return [*first, f"{hours:,.1f}", f"{disk / 1e9:,.1f}"]

    rules = Counter(cost.rule for cost in found.costs)
    by_rule = [row([cost for cost in found.costs if cost.rule == rule], rule, str(rules[rule])) for rule in rules]
    by_rule += [row(found.costs, "total", str(len(found.costs)))]
    trained = [cost for cost in found.costs if cost.rule == "pretrain"]
    by_run = [row([cost], cost.name, f"{cost.per_image / 1e9:,.1f}") for cost in trained]
    days = sum(cost.flops for cost in found.costs) / speed / 3600 / gpus / 24
    lines = [
        f"study {found.study}: a plan. Computed, not measured.",
        "",
        *aligned([["rule", "jobs", "GPU hours", "GB"], *by_rule]),
        "",
        *aligned([["training", "GFLOP/image", "GPU hours", "GB"], *by_run]),
        "",
        f"on {gpus} GPU{'s' if gpus > 1 else ''}: {days:,.1f} days",
        "",
        "assumptions:",
    ]
    return "\n".join([*lines, *(f"- {text}" for text in [*_assumptions(gpus, flops_per_second), *found.assumptions])])


def _assumptions(gpus: int, flops_per_second: float | None) -> list[str]:
    given = f"{flops_per_second:.3g} operations per second, as given by --flops-per-second" if flops_per_second else ""
    stated = f"{SHARE:.0%} of the {PEAK / 1e12:.0f} TFLOP/s (bf16, dense) that its maker states for a {GPU}"
    return [
        f"speed: {given or f'{SHARE * PEAK:.3g} operations per second, {stated}'}; reading images keeps up with it",
        f"work on {gpus} GPUs splits without loss" if gpus > 1 else "one job after the other",
        "operations: convolutions and matrix products of the real modules by torch.utils.flop_counter, a multiplication"
        " and an addition being two; student forward and backward, teacher forward, heads",
        "augmentation: on the CPU, free",
        "evaluations: passes of the encoder alone, at the same speed",
        f"disk of a training: exported weights, and the newest {KEPT} of its whole state; float32",
        f"disk of the rest: {RESULT_BYTES / 1e3:.0f} kB per result, table or figure, {ARRAY_BYTES / 1e6:.0f} MB for the"
        f" arrays of a figure, {ROW_BYTES} bytes per image in a manifest; the images themselves are not counted",
    ]
