"""`scfs smoke`: the unchanged graph of a study on next to nothing, in a folder of its own, to see that every job runs.

Two optimiser steps per training, images of noise, small heads. Backbones, methods, presets, layers and optimisers stay,
and so do rules and commands. The study's name ends in -smoke, and its scale says what it is: no result can be mistaken.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from scfs import paths
from scfs.config.base import EVERY_FIELD
from scfs.config.pretrain import Imported, Pretrain
from scfs.config.protocol import SMALL_BATCH, SMALL_CROP, SMALL_SIDE
from scfs.config.study import Study, load_study, parse_study
from scfs.errors import ScfsError
from scfs.io.progress import log
from scfs.smoke.stand_ins import SMALL_HEADS, STAND_INS, stand_in_weights, write_stand_ins

ROOT = Path(__file__).resolve().parents[2]
CODE = ("scfs", "workflow", "Snakefile", "profiles")
MARK = "SMOKE"
"""File that says a folder may be deleted."""
SCALE = "SMOKE TEST: two optimiser steps per training on images of noise. The numbers mean nothing."

SIZES: dict[str, Any] = {
    "epochs": 1,
    "batch": SMALL_BATCH,
    "views": {"global_size": SMALL_SIDE, "local_size": SMALL_CROP},
    **SMALL_HEADS,
    "loss": {"teacher_temperature_warmup": 1},
    "optimizer": {"warmup_epochs": 0.5},
}
"""Sizes that replace a run's; a number that is 0 stays 0."""
MOST_PARTS = 2
"""Parts that a batch is computed in at most."""


def small_study(study: Study, rows: int | None = None) -> dict[str, Any]:
    """Make the plain values of the rehearsal's file: all of the study and of those that it includes, for one seed.

    Args:
        study: the study.
        rows: rows to keep of each table, of those that show runs, and places to keep of each figure; None: all.
    """
    values = study.model_dump(mode="json", context=EVERY_FIELD)
    small = {name: protocol.small() for name, protocol in study.evaluate.items()}
    renamed = {name: dict(zip(study.evaluate[name].values(), small[name].values(), strict=True)) for name in small}
    complete = [(protocol.dataset, split) for protocol in study.evaluate.values() for split in protocol.complete_splits]
    data = {
        name: source.small(name, [split for dataset, split in complete if dataset == name])
        for name, source in study.data.items()
    }
    first_seeds = {(study.file_of("runs", run), study.key_of(run)): run for run in reversed(study.runs)}.values()
    for shown in _mappings([values["tables"], values["figures"]]):
        if "runs" in shown:
            shown["runs"] = [run for run in shown["runs"] if run in first_seeds]
        if value := shown.get("value"):
            shown["value"] = renamed[shown["evaluation"]].get(value, value)
    runs = [run for run in study.runs if run in first_seeds]
    if rows is not None:
        named = _shortened(values["tables"], values["figures"], rows)
        runs = [run for run in runs if run in named]
    replaced = {"study": f"{study.study}-smoke", "scale": SCALE, "torch_threads": 1}
    return {
        **{**values, **replaced, "include": [], "pretrain": {}, "seeds": []},
        "data": {name: source.model_dump(mode="json", exclude_none=True) for name, source in data.items()},
        "runs": {run: _small_run(run, study.settings(run), {str(paths.weights(one)) for one in runs}) for run in runs},
        "evaluate": {name: protocol.model_dump(mode="json") for name, protocol in small.items()},
    }


def _small_run(name: str, settings: Pretrain | Imported, made: Collection[str]) -> dict[str, Any]:
    """Make a run's settings small, and replace files of weights that no run has `made` by stand-ins."""
    values = settings.model_dump(mode="json")
    if isinstance(settings, Imported):
        return {**values, **stand_in_weights(name, settings)}
    if settings.init and settings.init not in made:
        values["init"] = f"{STAND_INS}/{name}.safetensors"
    return {**_resized(values, SIZES), "accumulate": min(settings.accumulate, MOST_PARTS)}


def _resized(settings: dict[str, Any], sizes: Mapping[str, Any]) -> dict[str, Any]:
    """Replace sizes; what is 0 stays 0."""
    small = {key: _resized(settings[key], size) if isinstance(size, dict) else size for key, size in sizes.items()}
    return {**settings, **{key: size for key, size in small.items() if settings[key]}}


def _mappings(shown: dict[str, Any] | list[Any]) -> Iterator[dict[str, Any]]:
    """Go through all mappings in tables or figures, however deep."""
    if isinstance(shown, dict):
        yield shown
    for item in shown.values() if isinstance(shown, dict) else shown:
        if isinstance(item, dict | list):
            yield from _mappings(item)


def _shortened(tables: dict[str, Any], figures: dict[str, Any], rows: int) -> set[str]:
    """Keep some rows of each table and places of each figure; return the runs that these show."""
    for table in tables.values():
        table["rows"] = ([row for row in table["rows"] if row["runs"]] or table["rows"])[:rows]
    for figure in figures.values():
        figure["runs"] = figure["runs"][:rows]
        if "points" in figure:
            figure["points"] = {line: places[:rows] for line, places in figure["points"].items()}
    return {run for shown in _mappings([tables, figures]) for run in shown.get("runs", ())}


def set_up(study: Path, rows: int | None = None) -> Path:
    """Make the folder of a rehearsal, from nothing: links to the code, the small study, and its stand-ins.

    Raises:
        ScfsError: the study is unsound or lies elsewhere, or the folder is something else's.
    """
    if not (ROOT / "Snakefile").is_file():
        raise ScfsError(f"{ROOT}: has no Snakefile: smoke needs a working copy of the project, no installed package")
    file = Path(os.path.relpath(study))
    before = load_study(file)
    if ".." in file.parts:
        raise ScfsError(f"{study}: smoke wants a study's file below the working folder")
    folder = Path("smoke") / before.study
    if folder.exists():
        if not (folder / MARK).is_file():
            raise ScfsError(f"{folder}: exists and was not made by smoke: remove it first")
        shutil.rmtree(folder)
    (folder / file).parent.mkdir(parents=True)
    (folder / MARK).write_text(f"{SCALE}\n")
    for name in CODE:
        (folder / name).symlink_to(ROOT / name)
    values = small_study(before, rows)
    (folder / file).write_text(f"# {SCALE}\n{yaml.safe_dump(values, sort_keys=False)}")
    write_stand_ins(folder, parse_study(values, str(folder / file)))
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
