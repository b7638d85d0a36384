"""`scfs plan`: what a study will cost. Computed from its settings by counting operations; nothing of it is measured."""

from collections import Counter
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from scfs import paths
from scfs.config.data import GarmentScenes, Official
from scfs.config.pretrain import Pretrain
from scfs.config.study import Study
from scfs.costs.gpu import GPU, PEAK, SHARE
from scfs.data.manifest import numbers_of_images
from scfs.model.backbones.registry import build_backbone
from scfs.model.ops import synchronize_batch_norm
from scfs.model.scfs import SCFS
from scfs.model.supervised import Supervised
from scfs.pipeline import jobs
from scfs.runtime import collectives
from scfs.runtime.gradient_allreduce import GradientAllReduce
from scfs.views.augmentation_table import GLOBAL_NUMBER

BATCH = 2
"""Images that are counted with: the least that BatchNorm takes."""
CLASSES = 1000
"""unsourced: classes of a supervised run; what they add is far below a thousandth."""
KEPT = 2
"""Newest states that a training keeps."""
RESULT_BYTES, ARRAY_BYTES, ROW_BYTES = 100_000, 10_000_000, 100
"""unsourced: orders of magnitude of a result, of a figure's arrays, and of an image's row in a manifest."""


@dataclass(frozen=True)
class Cost:
    """What a job takes."""

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


@cache
def training_flops(settings: Pretrain) -> float:
    """Operations per image of one training step: the student forward and backward, the teacher forward, all heads.

    Counted by torch on the real modules, without computing anything (device meta).
    """
    with FlopCounterMode(display=False) as counter:
        meta_step(settings)
    return int(counter.get_total_flops()) / BATCH


def meta_step(settings: Pretrain) -> None:
    """One step of `BATCH` images up to the optimiser, with the collectives of several processes, computing nothing."""
    model, views = _meta_model(settings), settings.views
    model = synchronize_batch_norm(model, torch.device("cpu"))
    with torch.device("meta"):
        global_crops = torch.empty(GLOBAL_NUMBER * BATCH, 3, views.global_size, views.global_size)
        number = views.local_number
        local_crops = torch.empty(number * BATCH, 3, views.local_size, views.local_size) if number else None
        if isinstance(model, Supervised):
            terms = model(global_crops, local_crops, torch.zeros(BATCH, dtype=torch.int64))
        else:
            crops = GLOBAL_NUMBER + number
            crop_boxes = torch.zeros(crops, BATCH, 5, dtype=torch.int32) if settings.method == "roi_crop" else None
            terms = model(global_crops, local_crops, settings.loss.teacher_temperature[0], crop_boxes)
        with GradientAllReduce(model.get_submodule("student").parameters()).during_backward():
            terms["loss"].backward()
        model.update_center()
        collectives.all_reduce_weighted({name: term.detach() for name, term in terms.items()}, 1.0)


def _meta_model(settings: Pretrain) -> SCFS | Supervised:
    """The model of a training, without memory."""
    with torch.device("meta"):
        supervised = settings.method == "supervised"
        return (Supervised.build(settings, CLASSES) if supervised else SCFS.build(settings)).train()


@cache
def forward_flops(backbone: str, size: int) -> float:
    """Operations of a frozen backbone for an image of `size` pixels."""
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        build_backbone(backbone).eval()(torch.empty(1, 3, size, size))
    return float(counter.get_total_flops())


def _bytes(tensors: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@cache
def training_bytes(settings: Pretrain) -> tuple[int, int]:
    """Bytes of the exported weights, and of the states that a training keeps."""
    model = _meta_model(settings)
    state = model.state_dict()
    weights = _bytes(tensor for name, tensor in state.items() if name.startswith(("student.", "teacher.")))
    moments = 2 if settings.optimizer.name == "adamw" else 1
    student = _bytes(p for p in model.get_submodule("student").parameters() if p.requires_grad)
    return weights, KEPT * (_bytes(state.values()) + moments * student) if settings.epochs else 0


class Images:
    """Numbers of images of a study's splits, and how they are known."""

    def __init__(self, study: Study) -> None:
        self.study, self.notes = study, dict[str, None]()

    def number(self, dataset: str, split: str) -> int:
        """Images of a split: as prepared, else as the study says, else 0."""
        config, name = self.study.data[dataset], f"{dataset}/{split}"
        if isinstance(config, GarmentScenes):
            return config.splits[split].scenes
        if paths.manifest(dataset).is_file():
            prepared = numbers_of_images(paths.manifest(dataset))  # opening it might make missing images again
            if split in prepared:
                return prepared[split]
        if split in config.images:
            source = "published" if isinstance(config, Official) else "the study says"
            self.notes[f"{name}: {config.images[split]:,} images, as {source} (not prepared yet)"] = None
            return config.images[split]
        self.notes[f"{name}: number of images unknown before `scfs prepare {dataset}`: counted as 0"] = None
        return 0


def plan(study: Study) -> Plan:
    """Costs of every job of a study."""
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
            costs.append(Cost(rule, job.key, disk=_backbone_bytes(study.settings(job.key).backbone)))
        elif rule in jobs.EVALUATING:
            costs.append(_evaluation(study, rule, job, images))
        else:
            costs.append(Cost(rule, job.stage, disk=RESULT_BYTES))
    return Plan(study.study, costs, list(images.notes))


def _evaluation(study: Study, rule: str, job: jobs.Job, images: Images) -> Cost:
    name = job.stage.removeprefix(f"{rule}-")
    protocol, backbone = study.evaluate[name], study.settings(job.variables.get("run", job.key)).backbone
    passes = protocol.passes(partial(images.number, protocol.dataset), part="part" in job.variables)
    flops = sum(number * forward_flops(backbone, side) for number, side in passes)
    images.notes |= dict.fromkeys(protocol.assumptions)
    disk = float(RESULT_BYTES + (ARRAY_BYTES if protocol.leaves_arrays else 0))
    if protocol.stage != "evaluate" and passes:
        disk += KEPT * 2 * _backbone_bytes(backbone)  # weights and their momentum
    return Cost(rule, f"{name} {job.key}", flops, disk)


@cache
def _backbone_bytes(backbone: str) -> int:
    with torch.device("meta"):
        return _bytes(build_backbone(backbone).state_dict().values())


def _training(study: Study, run: str, images: Images) -> Cost:
    settings = study.run(run)
    # What makes no difference to the count is made equal, so that runs that differ by it are counted once.
    plain = settings.model_copy(update={"seed": 0, "dataset": "", "split": ""})
    number = images.number(settings.dataset, settings.split) // settings.batch * settings.batch
    per_image = training_flops(plain) if settings.epochs else 0.0
    disk = float(sum(training_bytes(plain)))
    return Cost("pretrain", run, per_image * number * settings.epochs, disk, per_image)


def describe(found: Plan, gpus: int, flops_per_second: float | None) -> str:
    """Text of a plan."""
    speed = flops_per_second or SHARE * PEAK
    hours = {cost: cost.flops / speed / 3600 for cost in found.costs}
    total, disk = sum(hours.values()), sum(cost.disk for cost in found.costs)
    lines = [
        f"study {found.study}: a plan. Computed, not measured.",
        "",
        f"{'rule':<16}{'jobs':>6}{'GPU hours':>12}{'GB':>10}",
    ]
    for rule, number in Counter(cost.rule for cost in found.costs).items():
        of_rule = [cost for cost in found.costs if cost.rule == rule]
        sums = sum(hours[cost] for cost in of_rule), sum(cost.disk for cost in of_rule) / 1e9
        lines.append(f"{rule:<16}{number:>6}{sums[0]:>12,.1f}{sums[1]:>10,.1f}")
    lines += [f"{'total':<16}{len(found.costs):>6}{total:>12,.1f}{disk / 1e9:>10,.1f}", ""]
    lines.append(f"{'training':<32}{'GFLOP/image':>12}{'GPU hours':>12}{'GB':>10}")
    for cost in (cost for cost in found.costs if cost.rule == "pretrain"):
        lines.append(f"{cost.name:<32}{cost.per_image / 1e9:>12,.1f}{hours[cost]:>12,.1f}{cost.disk / 1e9:>10,.1f}")
    lines += ["", f"on {gpus} GPU{'s' if gpus > 1 else ''}: {total / gpus / 24:,.1f} days", "", "assumptions:"]
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
