"""The stages `tune` and `finetune`: points of a grid compared on held-out labels; the final training and its test."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scfs.config.finetune import FineTune
from scfs.errors import ScfsError
from scfs.evaluation.finetune.job import Setup, fine_tune
from scfs.evaluation.finetune.labelled import LabelledData, labelled_data
from scfs.evaluation.result import result_record
from scfs.io.progress import log
from scfs.io.results import nested_difference, read_result, write_result
from scfs.runtime import collectives
from scfs.runtime.device import resolve_precision
from scfs.training.base import Execution, prepare_process
from scfs.weights.store import load_backbone

FINAL = "final"
COMPARED = ("run", "evaluation", "protocol", "dataset", "labelled", "weights", "stage_version", "torch_threads")
"""Keys that a grid point's result must have in common with the final one."""


def finetune(
    protocol: FineTune,
    evaluation: str,
    run: str,
    weights: Path,
    manifest: Path,
    out: Path,
    *,
    part: str | None = None,
    parts: Sequence[Path] = (),
    **how: Any,
) -> None:
    """Train one point of the grid, or choose among them and do the final training; called again, it resumes.

    A point is trained without the validation images; the result has what it reaches on them, or that it diverged. The
    final training has all labelled images, and is tested. Repeating either gives the same bytes.

    Values: `top1`, `top5` (top K of K < 5 classes) and `mean_per_class`, in percent.

    Args:
        protocol: the grid and how it is trained.
        evaluation: the protocol's name in the study.
        run: name of the run that the weights come from.
        weights: file written by `scfs.weights.store.save_weights`.
        manifest: of the data set.
        out: path of the result (.json).
        part: the grid point, a key of `protocol.grid`; None: the final training.
        parts: for the final training, results of all of `protocol.parts`, in that order; none where there is no grid.
        how: see `scfs.training.base.Execution`.

    Raises:
        ScfsError: a grid point's result is missing or of another protocol, data or weights; all trainings of the grid
            or the final one diverged; the device is not there, or see `fine_tune` and `labelled_data`. Nothing is
            written.
    """
    if part is not None and part not in protocol.parts:
        allowed = f"not among {', '.join(protocol.parts)}" if protocol.parts else "there is no grid"
        raise ScfsError(f"{evaluation}: grid point {part!r}: {allowed}")
    execution = Execution(**how)
    device = prepare_process(execution.threads, execution.device)
    precision = resolve_precision(protocol.precision, device, protocol.crop)
    with collectives.process_group(device) as world:
        data, (_, source) = labelled_data(protocol, manifest), load_backbone(weights, protocol.weights)
        labelled = {"images": len(data.whole), "digest": data.whole.digest, "validation": len(data.validation or ())}
        record = result_record(protocol, run, data.splits, weights, source, execution.threads)
        record |= {"labelled": labelled, "precision": precision}
        setup = Setup(protocol, run, evaluation, weights, record, device, execution, world)
        result = _grid_point(setup, data, part) if part else _final(setup, data, parts)
        if collectives.is_first():
            used = {"device": str(device), "workers": execution.workers, "processes": world.size}
            seconds = round(result.pop("seconds"), 1)  # over all executions
            write_result(out, {**record, **result}, {**used, "seconds": seconds})


def _grid_point(setup: Setup, data: LabelledData, part: str) -> dict[str, Any]:
    lr, weight_decay = setup.protocol.grid[part]
    assert data.validation is not None  # there is a grid
    outcome = fine_tune(setup, part, lr, weight_decay, data.fit, data.validation)
    return {**outcome, "part": part, "lr": lr, "weight_decay": weight_decay}


def _final(setup: Setup, data: LabelledData, parts: Sequence[Path]) -> dict[str, Any]:
    protocol = setup.protocol
    points = {part: _read_point(path, part, setup.record) for part, path in zip(protocol.parts, parts, strict=True)}
    lr, weight_decay = choose(protocol, points) if points else next(iter(protocol.grid.values()))
    outcome = fine_tune(setup, FINAL, lr, weight_decay, data.whole, data.test)
    if diverged := outcome.get("diverged"):
        raise ScfsError(
            f"{setup.run}, {setup.evaluation}: the final training, lr {lr:g}, weight decay {weight_decay:g}, diverged"
            f" at step {diverged['step']}: loss {diverged['loss']}: give lower learning rates"
        )
    return {**outcome, "chosen": {"lr": lr, "weight_decay": weight_decay}, "cells": points}


def choose(protocol: FineTune, points: dict[str, dict[str, Any]]) -> tuple[float, float]:
    """Choose learning rate and weight decay: those of the best point by the protocol's metric; of equals, the smallest.

    A point that diverged is never chosen. At an edge of the grid a better one may lie outside: that is logged.

    Raises:
        ScfsError: all of them diverged.
    """
    sound = [point for point in points.values() if "diverged" not in point]
    if not sound:
        raise ScfsError(
            f"lr = {list(protocol.lr)}: all {len(points)} trainings of the grid diverged: give lower learning rates"
        )
    best = min(sound, key=lambda point: (-point[protocol.metric], point["lr"], point["weight_decay"]))
    lr, weight_decay = best["lr"], best["weight_decay"]
    log(
        f"chosen: lr {lr:g}, weight decay {weight_decay:g}: {protocol.metric} {best[protocol.metric]:.2f} on validation"
    )
    for name, value, tried in (("lr", lr, protocol.lr), ("weight_decay", weight_decay, protocol.weight_decay)):
        if len(tried) > 1 and value and value in (min(tried), max(tried)):  # nothing lies below no weight decay
            log(f"warning: the chosen {name} = {value:g} is at the edge of the grid {sorted(tried)}")
    return lr, weight_decay


def _read_point(path: Path, part: str, expected: dict[str, Any]) -> dict[str, Any]:
    """Read a grid point's result, which must be of this grid, these images and these weights."""
    stage = f"the stage tune of {part}"
    found = read_result(path, stage)
    wanted = {**{key: expected[key] for key in COMPARED}, "part": part}
    for key, value in wanted.items():
        if found.get(key) != value:
            where, was, is_now = nested_difference(key, found.get(key), value)
            raise ScfsError(f"{path}: of {where} = {was!r}, but here it is {is_now!r}: run {stage} again")
    outcome = {"diverged": found["diverged"]} if "diverged" in found else found["values"]
    return {"lr": found["lr"], "weight_decay": found["weight_decay"], **outcome}
