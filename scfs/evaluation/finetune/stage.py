"""The stages `tune` and `finetune`: points of a grid compared on held-out labels; the final training and its test."""

import json
from pathlib import Path
from typing import Any

from scfs.config.finetune import FineTune
from scfs.errors import ScfsError
from scfs.evaluation.finetune.job import Setup, fine_tune, open_setup
from scfs.io.progress import log
from scfs.io.results import nested_difference, write_result

FINAL = "final"
COMPARED = ("run", "evaluation", "protocol", "dataset", "labelled", "weights", "stage_version", "torch_threads")
"""Keys that a grid point's result must have in common with the final one."""


def tune(
    protocol: FineTune,
    evaluation: str,
    part: str,
    run: str,
    weights: Path,
    manifest: Path,
    out: Path,
    **execution: Any,
) -> None:
    """Train one point of the grid without the validation images, and write what it reaches on them.

    Called again, it resumes; repeating it gives the same bytes. A grid point that diverges is a result, without values.

    Args:
        protocol: the grid and how it is trained.
        evaluation: the protocol's name in the study.
        part: the grid point, a key of `protocol.grid`.
        run: name of the run that the weights come from.
        weights: file written by `scfs.weights.store.save_weights`.
        manifest: of the data set.
        out: path of the result (.json).
        execution: threads, device, workers and save_every; see `open_setup`.

    Raises:
        ScfsError: see `scfs.evaluation.finetune.job`; nothing is written.
    """
    if part not in protocol.parts:
        allowed = f"not among {', '.join(protocol.parts)}" if protocol.parts else "there is no grid"
        raise ScfsError(f"{evaluation}: grid point {part!r}: {allowed}")
    lr, weight_decay = protocol.grid[part]
    with open_setup(protocol, evaluation, run, weights, manifest, **execution) as setup:
        assert setup.data.validation is not None  # there is a grid
        outcome = fine_tune(setup, part, lr, weight_decay, setup.data.fit, setup.data.validation)
        if outcome is None:
            return
        record = {**setup.record(), "part": part, "lr": lr, "weight_decay": weight_decay, "values": outcome["values"]}
        if "diverged" in outcome:
            record["diverged"] = outcome["diverged"]
        write_result(out, record, setup.run_metadata(outcome["seconds"]))


def finetune(
    protocol: FineTune,
    evaluation: str,
    run: str,
    weights: Path,
    manifest: Path,
    parts: list[Path],
    out: Path,
    **execution: Any,
) -> None:
    """Choose among the grid points, train on all labelled images with the choice, and test.

    Values: `top1`, `top5` (top K of K < 5 classes) and `mean_per_class`, in percent on the test split.

    Args:
        parts: results of all of `protocol.parts`, in that order; none where there is no grid.
        protocol, evaluation, run, weights, manifest, out, execution: see `tune`.

    Raises:
        ScfsError: a grid point's result is missing or of another protocol, data or weights; all trainings of
            the grid or the final one diverged; or as `tune`. Nothing is written.
    """
    with open_setup(protocol, evaluation, run, weights, manifest, **execution) as setup:
        record = setup.record()
        points = {part: _grid_point(path, part, record) for part, path in zip(protocol.parts, parts, strict=True)}
        lr, weight_decay = choose(protocol, points) if points else next(iter(protocol.grid.values()))
        outcome = fine_tune(setup, FINAL, lr, weight_decay, setup.data.whole, setup.data.test)
        if outcome is None:
            return
        if "diverged" in outcome:
            raise ScfsError(_final_divergence(setup, lr, weight_decay, outcome["diverged"]))
        chosen = {"lr": lr, "weight_decay": weight_decay}
        record |= {"values": outcome["values"], "chosen": chosen, "cells": points}
        write_result(out, record, setup.run_metadata(outcome["seconds"]))


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


def _grid_point(path: Path, part: str, expected: dict[str, Any]) -> dict[str, Any]:
    """Read a grid point's result, which must be of this grid, these images and these weights."""
    again = f"run the stage tune of {part} again"
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ScfsError(f"{path}: result of the grid point {part}: {error.strerror}: {again}") from None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ScfsError(f"{path}: result of the grid point {part}: not a JSON object: {again}")
    wanted = {**{key: expected[key] for key in COMPARED}, "part": part}
    for key, value in wanted.items():
        if found.get(key) != value:
            where, was, is_now = nested_difference(key, found.get(key), value)
            raise ScfsError(f"{path}: of {where} = {was!r}, but here it is {is_now!r}: {again}")
    outcome = {"diverged": found["diverged"]} if "diverged" in found else found["values"]
    return {"lr": found["lr"], "weight_decay": found["weight_decay"], **outcome}


def _final_divergence(setup: Setup, lr: float, weight_decay: float, diverged: dict[str, Any]) -> str:
    return (
        f"{setup.run}, {setup.evaluation}: the final training, lr {lr:g}, weight decay {weight_decay:g}, diverged at"
        f" step {diverged['step']}: loss {diverged['loss']}: give lower learning rates"
    )
