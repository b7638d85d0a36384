"""The jobs of a study, one by one: command, inputs, outputs, and the keys of its parameters.

dvc.yaml is written from this list (dvc_file.py). Snakemake's rules are written by hand, and take from here what both
tools must agree on: the hash of exactly the parameters that dvc.yaml lists for a job, and the modules that a cheap
stage depends on. tests/workflow compares the two graphs job by job.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from scfs import paths
from scfs.config.detection import Detection
from scfs.config.identity import STAGE_VERSIONS, VERSION_OF
from scfs.config.study import Study, read_yaml
from scfs.config.weight_formats import converted_path, export_formats
from scfs.pipeline.code_inputs import inspection_modules, modules_of, report_modules

VERSIONS = Path("scfs/config/identity.py")
CATALOGUE = Path("scfs/weights/catalogue.yaml")
DATA_CATALOGUE = Path("scfs/config/official_sets.yaml")

EVALUATING = ("evaluate", "tune", "finetune", "detect", "average")
KEYS = {
    "prepare": ("data",),
    "inspect": ("data",),
    "pretrain": ("runs", "torch_threads", "pretrain"),
    "import_weights": ("runs",),
    **dict.fromkeys(EVALUATING, ("evaluate", "torch_threads")),
}
"""Section of the study that names a stage's jobs, and keys that all of them depend on. The other stages (tables,
figures, the report) depend on the whole study, and `convert` on none of it, as its weights are an input."""


@dataclass(frozen=True)
class Job:
    """One job of a study: a rule with its wildcards, a stage of dvc.yaml with its key."""

    stage: str
    """Name of the dvc stage: the rule's, with the evaluation's, table's or figure's name where it has one."""
    key: str
    """Data set or run, behind the @ of `dvc repro STAGE@KEY`; empty for a stage of a single job."""
    command: str
    """Arguments of `scfs`, without those that name the study's file and the log."""
    log: str
    """The job's log file."""
    inputs: tuple[Path, ...] = ()
    outputs: tuple[Path, ...] = ()
    metrics: tuple[Path, ...] = ()
    """Outputs that `dvc metrics` shows."""
    plots: tuple[Path, ...] = ()
    """Outputs that `dvc plots` shows."""
    parameters: dict[Path, tuple[str, ...]] = field(default_factory=dict)
    """Dotted keys by file: what makes the job stale when its value changes."""
    file: Path = Path("params.yaml")
    """The study's file that the command reads."""
    variables: dict[str, str] = field(default_factory=dict)
    """Values that differ, beside the key, between the jobs of a stage."""


def parameters(study: Study, stage: str, name: str = "") -> dict[Path, tuple[str, ...]]:
    """Return the keys that a job depends on, by file; only those that the file has.

    Args:
        study: the study.
        stage: rule.
        name: data set, run or evaluation; none for weights in other names, tables, figures and the report.
    """
    versions: dict[Path, tuple[str, ...]] = {VERSIONS: (f"STAGE_VERSIONS.{VERSION_OF.get(stage, stage)}",)}
    if stage == "convert":
        return versions
    if stage not in KEYS:
        return {study.path: tuple(_content(study.path)), **versions}
    section, *shared = KEYS[stage]
    file, key = study.file_of(section, name), study.key_of(name) if section == "runs" else name
    found = {file: (*(one for one in shared if one in _content(file)), f"{section}.{key}"), **versions}
    entries = study.data[name].catalogue_entries.values() if stage == "prepare" else ()
    if entries:
        found[DATA_CATALOGUE] = tuple(f"sets.{entry}" for entry in entries)
    imported = study.imported(name) if stage == "import_weights" else None
    if imported is not None and not imported.is_file:
        found[CATALOGUE] = (f"entries.{imported.weights}",)
    return found


def parameters_hash(study: Study, stage: str, name: str = "") -> str:
    """Return sixteen hexadecimal digits for the values of `parameters`: Snakemake compares them, DVC the values.

    They are of what the files say: the order of keys does not matter, and 1 is 1.0, but a default that is written out
    is another value for both tools. The stage runs then, and an expensive one finds its finished state by its identity
    (scfs.config.identity), which has all defaults filled in. Whatever changes an identity changes this hash.
    """
    chosen = []
    for file, keys in parameters(study, stage, name).items():
        content = {"STAGE_VERSIONS": STAGE_VERSIONS} if file == VERSIONS else _content(file)
        chosen.append({key: _value(content, key) for key in keys})
    text = json.dumps(_plain_numbers(chosen), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _content(path: Path) -> Any:
    """Return the plain values of a study's file, which every job asks for; parsed again when it has changed."""
    return _parsed(path, path.stat().st_mtime_ns)


@cache
def _parsed(path: Path, modified: int) -> Any:
    return read_yaml(path)


def _value(content: Any, key: str) -> Any:
    for part in key.split("."):
        content = content[part]
    return content


def _plain_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _job(study: Study, rule: str, name: str, stage: str, key: str, command: str, log: str, **files: Any) -> Job:
    """Return a job with the parameters of a rule and a name (see `parameters`), and the file that defines that name."""
    section = KEYS.get(rule, ("",))[0]
    file = study.file_of(section, name) if section in ("data", "runs") else study.path
    log = f"logs/{log}.log"
    return Job(stage, key, command, log, parameters=parameters(study, rule, name), file=file, **files)


def jobs(study: Study) -> Iterator[Job]:
    """Yield every job of a study, those of the studies that it includes among them, in the order of the pipeline."""
    for dataset in study.data:
        yield prepare(study, dataset)
        yield inspect(study, dataset)
    for run in study.runs:
        yield pretrain(study, run)
    for run, library in converted(study):
        yield convert(study, run, library)
    for run, evaluation in study.pairs:
        yield from evaluate(study, run, evaluation)
    for table in study.tables:
        yield table_job(study, table)
    for figure in study.figures:
        yield figure_job(study, figure)
    yield report(study)


def prepare(study: Study, dataset: str) -> Job:
    """Return the job of a data set's manifest.

    Folders of one's own are no input here: DVC would hash every image. Nor are official archives, as 138 GB of ImageNet
    would be hashed and stored again: their hashes are parameters.
    """
    entries = study.data[dataset].catalogue_entries
    stage = {0: "prepare", 1: "prepare_official", 2: "prepare_subset"}[len(entries)]
    files = {"outputs": (paths.manifest(dataset),), "variables": dict(entries)}
    return _job(study, "prepare", dataset, stage, dataset, f"prepare {dataset}", f"prepare/{dataset}", **files)


def inspect(study: Study, dataset: str) -> Job:
    """Return the job that finds out what a data set holds, for the report."""
    files = {"inputs": (paths.manifest(dataset), *inspection_modules()), "outputs": inspected(dataset)}
    return _job(study, "inspect", dataset, "inspect", dataset, f"inspect {dataset}", f"inspect/{dataset}", **files)


def inspected(dataset: str) -> tuple[Path, ...]:
    """Return the files that the inspection of a data set leaves."""
    return (paths.inspection(dataset), paths.inspection(dataset).with_suffix(".npz"))


def pretrain(study: Study, run: str) -> Job:
    """Return the job of a pre-training, or of the import of weights that others trained."""
    result = paths.result(run, "pretrain")
    outputs: tuple[Path, ...] = (paths.weights(run), result, result.with_suffix(".run.json"))
    inputs: tuple[Path, ...] = ()
    imported = study.imported(run)
    if imported is None:
        settings = study.run(run)
        stage, rule = "pretrain_init" if settings.init else "pretrain", "pretrain"
        variables = {"dataset": settings.dataset, **({"settings": study.key_of(run)} if study.has_seeds else {})}
        variables |= {"init": settings.init} if settings.init else {}
        inputs, outputs = (paths.manifest(settings.dataset), *settings.init_files), (*outputs, paths.curve(run))
    else:
        stage, rule = "import_file" if imported.is_file else "import_weights", "import_weights"
        variables = {"file" if imported.is_file else "entry": imported.weights}
        inputs = (Path(imported.weights),) if imported.is_file else ()
    command, files = f"{rule.replace('_', '-')} --run {run}", {"inputs": inputs, "outputs": outputs}
    return _job(study, rule, run, stage, run, command, f"pretrain/{run}", variables=variables, **files)


def converted(study: Study) -> list[tuple[str, str]]:
    """Return (run, format) of the study's own trained runs, as `convert` asks, and of all that detection needs."""
    own = [run for run in study.runs if study.file_of("runs", run) == study.path and study.imported(run) is None]
    formats = {run: export_formats(study.run(run).backbone) for run in own if study.run(run).epochs}
    asked = [(run, format) for run, known in formats.items() for format in study.convert if format in known]
    detected = [run for run, evaluation in study.pairs if study.evaluate[evaluation].stage == "detect"]
    return list(dict.fromkeys([*asked, *((run, "detectron2") for run in detected)]))


def convert(study: Study, run: str, format: str) -> Job:
    """Return the job that writes a run's backbone in another library's format."""
    command, log = f"convert --run {run} --to {format}", f"convert/{format}/{run}"
    files = {"inputs": (paths.weights(run),), "outputs": (converted_path(run, format),)}
    return _job(study, "convert", "", f"convert-{format}", run, command, log, **files)


def evaluate(study: Study, run: str, evaluation: str) -> Iterator[Job]:
    """Yield the jobs of one evaluation of one run: the trainings that it is made of, then its own."""
    protocol = study.evaluate[evaluation]
    trained, parts = training_inputs(study, run, evaluation), part_results(study, run, evaluation)
    if protocol.stage == "evaluate":
        inputs = (paths.weights(run), paths.manifest(protocol.dataset), *modules_of(protocol.kind))
        yield _evaluation(study, "evaluate", run, evaluation, inputs)
    elif protocol.stage == "finetune":  # points of a grid, then a training with what is best among them
        for part in protocol.parts:
            yield _evaluation(study, "tune", run, evaluation, trained, part)
        yield _evaluation(study, "finetune", run, evaluation, (*trained, *parts))
    else:  # trials of a detector, then their mean
        for part in protocol.parts:
            yield _evaluation(study, "detect", run, evaluation, trained, part)
        yield _evaluation(study, "average", run, evaluation, parts)


def _evaluation(
    study: Study, stage: str, run: str, evaluation: str, inputs: tuple[Path, ...], part: str | None = None
) -> Job:
    result = paths.part(run, evaluation, part) if part else paths.result(run, evaluation)
    key, arguments = (f"{run}-{part}", f"{evaluation} {part}") if part else (run, evaluation)
    arrays = (result.with_suffix(".npz"),) if study.evaluate[evaluation].leaves_arrays else ()
    command, log = f"{stage} {arguments} --run {run}", f"{stage}/{evaluation}/{key}"
    files = {"inputs": inputs, "outputs": (result, result.with_suffix(".run.json"), *arrays)}
    variables = {"run": run, "part": part} if part else {}
    return _job(study, stage, evaluation, f"{stage}-{evaluation}", key, command, log, variables=variables, **files)


def training_inputs(study: Study, run: str, evaluation: str) -> tuple[Path, ...]:
    """Return what a training of an evaluation reads; of the code only a detector's recipe, see `Protocol.stage`."""
    protocol = study.evaluate[evaluation]
    if isinstance(protocol, Detection):
        recipe = Path(f"scfs/detection/recipes/{protocol.recipe}.yaml")
        return (converted_path(run, "detectron2"), paths.manifest(protocol.dataset), recipe)
    return (paths.weights(run), paths.manifest(protocol.dataset))


def part_results(study: Study, run: str, evaluation: str) -> tuple[Path, ...]:
    """Return the results of the parts of an evaluation."""
    return tuple(paths.part(run, evaluation, part) for part in study.evaluate[evaluation].parts)


def table_job(study: Study, table: str) -> Job:
    """Return the job of a table, its Markdown, and its numbers alone for `dvc metrics`."""
    out, numbers = paths.table(study.study, table), paths.metrics(study.study, table)
    outputs = (out, out.with_suffix(".md"))
    return _shown(study, "table", table, table_results(study, table), outputs=outputs, metrics=(numbers,))


def figure_job(study: Study, figure: str) -> Job:
    """Return the job of a figure."""
    drawn = paths.figure(study.study, figure, study.figures[figure].format)
    return _shown(study, "figure", figure, figure_results(study, figure), plots=(drawn,))


def report(study: Study) -> Job:
    """Return the job of the study's report."""
    data = [path for dataset in study.data for path in inspected(dataset)]
    results = [paths.result(run, name) for run, name in [*((run, "pretrain") for run in study.runs), *study.pairs]]
    tables = [paths.table(study.study, table) for table in study.tables]
    figures = [paths.figure(study.study, name, figure.format) for name, figure in study.figures.items()]
    return _shown(study, "report", "", [*data, *results, *tables, *figures], outputs=(paths.report(study.study),))


def _shown(study: Study, stage: str, name: str, results: list[Path], **files: Any) -> Job:
    """Return the job of a table, a figure or the report; `files`: its outputs, metrics or plots."""
    log, inputs = f"report/{study.study}" + (f"-{stage}-{name}" if name else ""), (*results, *report_modules())
    dvc_stage, command = (f"{stage}-{name}", f"{stage} {name}") if name else (stage, stage)
    return _job(study, stage, "", dvc_stage, "", command, log, inputs=inputs, **files)


def table_results(study: Study, table: str) -> list[Path]:
    """Return the results that a table shows; a run's training record tells whether they are of its present weights."""
    shown = study.tables[table]
    evaluations = dict.fromkeys(["pretrain", *(column.evaluation for column in shown.columns)])
    return [paths.result(run, evaluation) for run in shown.runs for evaluation in evaluations]


def figure_results(study: Study, name: str) -> list[Path]:
    """Return the results that a figure shows; see `table_results`."""
    figure = study.figures[name]
    evaluations = ["pretrain", *([figure.evaluation] if figure.evaluation else [])]
    found = [paths.result(run, evaluation) for run in study.shown(figure) for evaluation in evaluations]
    if figure.evaluation and study.evaluate[figure.evaluation].leaves_arrays:
        found += [paths.result(run, figure.evaluation).with_suffix(".npz") for run in study.shown(figure)]
    return found
