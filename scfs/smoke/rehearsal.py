"""`scfs smoke`: the unchanged graph of a study on next to nothing, in a folder of its own, to see that every job runs.

Two optimiser steps per training, images of noise, small heads. Backbones, methods, presets, layers and optimisers stay,
and so do rules and commands. The study's name ends in -smoke, and its scale says what it is: no result can be mistaken.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from scfs.config.base import merged, parse
from scfs.config.data import SOURCES, DataSource
from scfs.config.protocol import EVALUATIONS, SMALL_BATCH, SMALL_CROP, SMALL_SIDE, Protocol
from scfs.config.study import load_study, read_yaml
from scfs.errors import ScfsError
from scfs.io.progress import log
from scfs.smoke import stand_in_boxes
from scfs.smoke.stand_ins import labelled_files, stand_in_format, write_stand_ins

ROOT = Path(__file__).resolve().parents[2]
CODE = ("scfs", "workflow", "Snakefile", "profiles")
MARK = "SMOKE"
"""File that says a folder may be deleted."""
SCALE = "SMOKE TEST: two optimiser steps per training on images of noise. The numbers mean nothing."

PRETRAIN: dict[str, Any] = {
    "epochs": 1,
    "batch": SMALL_BATCH,
    "views": {"global_size": SMALL_SIDE, "local_size": SMALL_CROP},
    "head": {"hidden": 16, "bottleneck": 8, "prototypes": 16},
    "search_head": {"width": 8, "hidden": 16, "output": 8},
    "loss": {"teacher_temperature_warmup": 1},
    "optimizer": {"warmup_epochs": 0.5},
}
"""Sizes that replace a run's; a number that is 0 stays 0."""
Files = dict[Path, dict[str, Any]]
"""Plain values of a study's file and of those that it includes, its own first."""


def read_files(path: Path) -> Files:
    """Read the study's file and all that it includes, which must be sound."""
    load_study(path)
    files: Files = {path: read_yaml(path)}
    for name in files[path].get("include", []):
        files |= read_files(Path(name))
    return files


def smoke_files(files: Files, rows: int | None = None) -> Files:
    """Make the files of the rehearsal.

    Args:
        files: see `read_files`.
        rows: rows to keep of each table, of those that show runs, and places to keep of each figure; None: all.
    """
    files = {
        path: {**values, "seeds": values["seeds"][:1]} if "seeds" in values else values
        for path, values in files.items()
    }
    main, *_ = files
    if rows is not None:
        files = _shortened(files, main, rows)
    before = {name: _protocol(given) for values in files.values() for name, given in _part(values, "evaluate")}
    small = {name: protocol.small() for name, protocol in before.items()}
    renamed = {name: dict(zip(before[name].values(), small[name].values(), strict=True)) for name in small}
    complete = {(protocol.dataset, split) for protocol in before.values() for split in protocol.complete_splits}
    return {path: _small(values, small, renamed, complete) for path, values in files.items()}


def _protocol(values: dict[str, Any]) -> Protocol:
    protocol: Protocol = parse(EVALUATIONS[values["kind"]], values, "smoke")
    return protocol


def _part(values: Mapping[str, Any], section: str) -> Iterable[tuple[str, dict[str, Any]]]:
    return values.get(section, {}).items()


def _labelled(files: Files) -> set[str]:
    """Find the data sets whose labels somebody needs, or that have a class list; the others are flat folders."""
    found = {protocol["dataset"] for values in files.values() for _, protocol in _part(values, "evaluate")}
    for values in files.values():
        found |= {name for name, data in _part(values, "data") if "class_list" in data}
        runs = (merged(values.get("pretrain", {}), run) for _, run in _part(values, "runs") if "weights" not in run)
        found |= {run["dataset"] for run in runs if run.get("method") == "supervised"}
    return found


def _small(
    values: dict[str, Any],
    small: Mapping[str, Protocol],
    renamed: dict[str, dict[str, str]],
    complete: set[tuple[str, str]],
) -> dict[str, Any]:
    """Replace everything in a file that costs time."""
    shared = merged(values.get("pretrain", {}), PRETRAIN)
    return {
        **values,
        "study": f"{values['study']}-smoke",
        "scale": SCALE,
        "torch_threads": 1,
        "data": {name: _small_data(name, data, complete) for name, data in _part(values, "data")},
        "pretrain": _resized(shared, values.get("pretrain", {})),
        "runs": {name: _small_run(name, run) for name, run in _part(values, "runs")},
        "evaluate": {name: _small_evaluation(name, small[name]) for name, _ in _part(values, "evaluate")},
        "tables": {name: _renamed_table(table, renamed) for name, table in _part(values, "tables")},
        "figures": {name: _renamed_value(figure, renamed) for name, figure in _part(values, "figures")},
    }


def _small_data(name: str, data: dict[str, Any], complete: set[tuple[str, str]]) -> dict[str, Any]:
    source: DataSource = parse(SOURCES[data["source"]], data, "smoke")
    small = source.small(name, [split for dataset, split in complete if dataset == name])
    return small.model_dump(mode="json", exclude_none=True)


def _small_run(name: str, run: dict[str, Any]) -> dict[str, Any]:
    """Make a run's differences small, or replace others' weights by a stand-in in the same format."""
    if "weights" not in run:
        return _resized(run, run)
    format = stand_in_format(run)
    ending = "safetensors" if format == "safetensors" else "pth"
    return {**run, "weights": f"stand-ins/{name}.{ending}", "format": format}


def _resized(
    settings: dict[str, Any], before: Mapping[str, Any], sizes: Mapping[str, Any] = PRETRAIN
) -> dict[str, Any]:
    """Replace the sizes that `settings` names; what was 0 in `before` stays 0."""
    result = dict(settings)
    for key, value in settings.items():
        if key in sizes:
            old = before.get(key)
            result[key] = (
                _resized(value, old or {}, sizes[key]) if isinstance(value, dict) else 0 if old == 0 else sizes[key]
            )
    if "accumulate" in settings and sizes is PRETRAIN:
        result["accumulate"] = min(settings["accumulate"], 2)
    return result


def _small_evaluation(name: str, protocol: Protocol) -> dict[str, Any]:
    small = protocol.model_dump(mode="json")
    if "file" in (small.get("labels") or {}):
        small["labels"] = {**small["labels"], **labelled_files(name)}
    return small


def _renamed_table(table: dict[str, Any], renamed: dict[str, dict[str, str]]) -> dict[str, Any]:
    return {**table, "columns": [_renamed_value(column, renamed) for column in table["columns"]]}


def _renamed_value(shown: dict[str, Any], renamed: dict[str, dict[str, str]]) -> dict[str, Any]:
    value = shown.get("value")
    return shown if value is None else {**shown, "value": renamed[shown["evaluation"]].get(value, value)}


def _shortened(files: Files, main: Path, rows: int) -> Files:
    """Keep some rows of each table and places of each figure, and the runs that these show."""
    values = dict(files[main])
    tables, figures = dict(_part(values, "tables")), dict(_part(values, "figures"))
    for name, table in tables.items():
        showing = [row for row in table["rows"] if row.get("runs")]
        tables[name] = {**table, "rows": showing[:rows] or table["rows"][:rows]}
    for name, figure in figures.items():
        shown = {key: figure[key][:rows] for key in ("runs",) if key in figure}
        points = {line: places[:rows] for line, places in figure.get("points", {}).items()}
        figures[name] = {**figure, **shown, **({"points": points} if points else {})}
    wanted = _names(tables) | _names(figures)
    result = {path: dict(other) for path, other in files.items()}
    result[main] |= {"tables": tables, "figures": figures}
    for path, other in result.items():
        endings = ["", *(f"-s{seed}" for seed in other.get("seeds", []))]
        runs = dict(_part(other, "runs"))
        other["runs"] = {run: runs[run] for run in runs if any(f"{run}{ending}" in wanted for ending in endings)}
        if path != main:  # only its data, runs and evaluations matter here
            other.pop("tables", None), other.pop("figures", None)
    return result


def _names(shown: Any) -> set[str]:
    """Find the runs that are named anywhere in tables or figures."""
    if isinstance(shown, list):
        return {name for item in shown for name in _names(item)}
    if not isinstance(shown, dict):
        return set()
    return {name for key, item in shown.items() for name in (item if key == "runs" else _names(item))}


def set_up(study: Path, rows: int | None = None) -> Path:
    """Make the folder of a rehearsal, from nothing: links to the code, the small study, and its stand-ins.

    Raises:
        ScfsError: the study is unsound or lies elsewhere, or the folder is something else's.
    """
    if not (ROOT / "Snakefile").is_file():
        raise ScfsError(
            f"{ROOT}: has no Snakefile: smoke needs a working copy of the project, not an installed package"
        )
    relative = Path(os.path.relpath(study))
    files = smoke_files(read_files(relative), rows)
    if any(path.is_absolute() or ".." in path.parts for path in files):
        raise ScfsError(f"{study}: smoke wants a study's file below the working folder")
    folder = Path("smoke") / str(files[relative]["study"]).removesuffix("-smoke")
    if folder.exists():
        if not (folder / MARK).is_file():
            raise ScfsError(f"{folder}: exists and was not made by smoke: remove it first")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / MARK).write_text(f"{SCALE}\n")
    for name in CODE:
        (folder / name).symlink_to(ROOT / name)
    for path, values in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(f"# {SCALE}\n{yaml.safe_dump(values, sort_keys=False)}")
        write_stand_ins(folder, values, _labelled(files))
        stand_in_boxes.write_boxes(folder, values)
    return folder


def smoke(study: Path, cores: int, rows: int | None = None) -> None:
    """Rehearse a study: run its whole graph by Snakemake, whose output is shown.

    Raises:
        ScfsError: see `set_up`; or a job failed.
    """
    folder = set_up(study, rows)
    log(f"smoke: {SCALE} Folder: {folder}")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    places = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "snakemake", "--cores", str(cores), "--configfile", os.path.relpath(study)]
    started = time.monotonic()
    ended = subprocess.run(command, cwd=folder, env={**os.environ, "PATH": path, "PYTHONPATH": places})
    seconds = time.monotonic() - started
    if ended.returncode:
        raise ScfsError(
            f"smoke: snakemake failed after {seconds:.0f} s; what it said is above, the jobs' logs in {folder}/logs"
        )
    log(f"smoke: {study}: every job ran, in {seconds:.0f} s; {folder}")
