"""The file dvc.yaml of a study, written from the list of its jobs: `make dvc` does it for every study.

DVC joins all dvc.yaml of a repository to one graph, in which an output has one stage. So a study's file leaves out
what the studies that it includes define.
"""

import os
import re
from pathlib import Path
from typing import Any

import yaml

from scfs import paths
from scfs.config.study import Study
from scfs.errors import refusing
from scfs.pipeline import jobs
from scfs.pipeline.jobs import Job

HEADER = """\
# Written by `make dvc` from {study}: do not edit. The same stages as Snakemake's rules.
# dvc repro STAGE@KEY runs one of them; dvc params diff, dvc metrics diff and dvc plots diff compare revisions.
"""


def dvc_path(study: Study) -> Path:
    """Return the path of DVC's file of a study, which stands beside the study's own."""
    return study.path.with_name("dvc.yaml")


def own_jobs(study: Study) -> list[Job]:
    """Return the jobs that no included study defines; tables, figures and the report are always the study's own."""
    taken = {output for other in study.included for job in jobs.jobs(other) for output in job.outputs + job.plots}
    return [job for job in jobs.jobs(study) if not taken.intersection(job.outputs + job.plots)]


def render(study: Study) -> str:
    """Return the text of the file."""
    wdir = os.path.relpath(".", study.path.parent)
    groups: dict[str, list[Job]] = {}
    for job in own_jobs(study):
        groups.setdefault(job.stage, []).append(job)
    content: dict[str, Any] = {"stages": {stage: _stage(jobs, wdir) for stage, jobs in groups.items()}}
    # The curve of an untrained run is a header alone; in supervised runs labels take the teacher's place.
    jobs_of = (job for stage in ("pretrain", "pretrain_init") for job in groups.get(stage, []))
    trained = [job.key for job in jobs_of if study.run(job.key).epochs]
    with_teacher = [run for run in trained if not study.run(run).learns_from_labels]
    if trained:
        plots = [("data loss", "loss_data", trained), ("teacher entropy", "teacher_entropy", with_teacher)]
        content["plots"] = [_plot(title, column, runs, wdir) for title, column, runs in plots]
    text = yaml.dump(content, Dumper=_Indented, sort_keys=False, width=120)
    return HEADER.format(study=study.path) + text


def _plot(title: str, column: str, runs: list[str], wdir: str) -> dict[str, Any]:
    """Return a plot of a column of curve.csv over the epochs of runs."""
    files = [Path(wdir, paths.curve(run)).as_posix() for run in runs]
    return {title: {"x": "epoch", "y": dict.fromkeys(files, column), "title": title}}


class _Indented(yaml.SafeDumper):
    """Indents lists below their key, and writes out what stands above instead of a reference to it."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _stage(jobs: list[Job], wdir: str) -> dict[str, Any]:
    """Return one entry of `stages`: a plain one, or one for many keys."""
    entries = [_entry(job, wdir) for job in jobs]
    if not jobs[0].key:
        return entries[0]
    named = bool(jobs[0].variables)
    places = {"${key}" if named else "${item}": [job.key for job in jobs]}
    places |= {f"${{item.{name}}}": [job.variables[name] for job in jobs] for name in jobs[0].variables}
    what = f"{jobs[0].file}: stage {jobs[0].stage}: its jobs differ by more than their key and variables"
    with refusing(what, ValueError):
        template = _template(entries, places)
    return {"foreach": {job.key: job.variables for job in jobs} if named else [job.key for job in jobs], "do": template}


def _entry(job: Job, wdir: str) -> dict[str, Any]:
    entry: dict[str, Any] = {"cmd": f"scfs --params {job.file} --log {job.log} {job.command}"}
    if wdir != ".":
        entry["wdir"] = wdir
    if job.inputs:
        entry["deps"] = list(map(str, job.inputs))
    entry["params"] = [{str(file): list(keys)} for file, keys in job.parameters.items()]
    for kind in ("outputs", "metrics", "plots"):
        if getattr(job, kind):
            entry["outs" if kind == "outputs" else kind] = list(map(str, getattr(job, kind)))
    return entry


def _template(values: list[Any], places: dict[str, list[str]]) -> Any:
    """Merge the entries of a stage's jobs into one, with DVC's notation where each has its own key or variable.

    Word by word, as a key may also be a word that all of them have: a run can be called scfs.

    Args:
        values: one value for each job: mappings, lists or texts of one shape.
        places: DVC's notation, and what stands there in each job.

    Raises:
        ValueError: they differ in something else.
    """
    first = values[0]
    if isinstance(first, dict):
        parts = zip(*(value.items() for value in values), strict=True)
        pairs = [(_same([key for key, _ in part]), _template([item for _, item in part], places)) for part in parts]
        return dict(pairs)
    if isinstance(first, list):
        return [_template(list(part), places) for part in zip(*values, strict=True)]
    if whole := next((notation for notation, own in places.items() if own == values), None):
        return whole
    words = zip(*(re.findall(r"[\w-]+|[^\w-]+", value) for value in values), strict=True)
    return "".join(_word(list(word), places) for word in words)


def _word(words: list[str], places: dict[str, list[str]]) -> str:
    return next((notation for notation, own in places.items() if own == words), None) or _same(words)


def _same(words: list[str]) -> str:
    if any(word != words[0] for word in words):
        raise ValueError(words)
    return words[0]
