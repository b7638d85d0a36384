"""A study: data sets, pre-training runs, evaluations, and the tables and figures they give; all of it is checked."""

import os
from collections.abc import Collection
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import PrivateAttr, model_validator
from pydantic.json_schema import models_json_schema

import scfs.config.evaluation  # noqa: F401  # they add themselves
from scfs.config import data  # noqa: F401  # the sources add themselves
from scfs.config.base import NAME, Config, Name, Positive, Seed, merged, parse
from scfs.config.data_source import DataSet
from scfs.config.pretrain import Imported, Pretrain
from scfs.config.protocol import Evaluation
from scfs.config.report import AnyFigure, Figure, Table
from scfs.config.seeds import with_seeds
from scfs.config.strict_yaml import load_yaml
from scfs.config.weight_formats import ExportFormat
from scfs.errors import ScfsError, reading, refusing


class Study(Config):
    """A study's file."""

    study: Name
    """Name; results go to results/studies/<name>."""
    include: tuple[str, ...] = ()
    """Other studies' files, whose data sets, runs and evaluations this one refers to: each is defined once."""
    scale: str = ""
    """Reason why the numbers are not to be compared with the paper's; empty at the paper's own scale."""
    torch_threads: Positive = 1
    """Threads of each training or evaluation process; part of a result's identity, since sums depend on it."""
    data: dict[Name, DataSet] = {}
    """Data sets by name."""
    pretrain: dict[str, Any] = {}
    """Settings shared by all runs; see the class Pretrain."""
    seeds: tuple[Seed, ...] = ()
    """Seeds of every pre-training that has none of its own: run X becomes X-s0, X-s1, ..., and a table's row or a
    figure that names X shows them all."""
    runs: dict[Name, dict[str, Any]] = {}
    """Runs by name: what differs from `pretrain`; or `weights` of others, see the class Imported."""
    convert: tuple[ExportFormat, ...] = ()
    """Formats in which every trained run's backbone is written too, where they have the architecture; safetensors and
    pth: our own names, without heads."""
    evaluate: dict[Name, Evaluation] = {}
    """Evaluations by name; a run gets those that a table or figure shows of it."""
    tables: dict[Name, Table] = {}
    """Tables by name."""
    figures: dict[Name, AnyFigure] = {}
    """Figures by name."""
    _bases: dict[str, str] = PrivateAttr(default_factory=dict)
    _path: Path = PrivateAttr(default=Path("params.yaml"))
    _included: tuple["Study", ...] = PrivateAttr(default=())

    @model_validator(mode="after")
    def _references_exist(self) -> Self:
        if "pretrain" in self.evaluate:
            raise ValueError("evaluate.pretrain: the name is taken by the record of the pre-training")
        for name, evaluation in self.evaluate.items():
            _known(f"evaluate.{name}.dataset", evaluation.dataset, self.data)
            for split in evaluation.splits:
                _known(f"evaluate.{name}: split", split, self.data[evaluation.dataset].splits)
        for name, table in self.tables.items():
            for column in table.columns:
                self._measures(f"tables.{name}", column.evaluation, column.value)
            for run in table.runs:
                _known(f"tables.{name}: run", run, self.runs)
        for name, figure in self.figures.items():
            if figure.evaluation is not None:
                self._measures(f"figures.{name}", figure.evaluation, *figure.named_values)
                kind = self.evaluate[figure.evaluation].kind
                if figure.shows not in (None, kind):
                    raise ValueError(
                        f"figures.{name}: evaluation {figure.evaluation!r} is of the kind {kind}: "
                        f"a figure of the kind {figure.kind} shows {figure.shows}"
                    )
            for run in self.shown(figure):
                _known(f"figures.{name}: run", run, self.runs)
        return self

    def _measures(self, where: str, evaluation: str, *values: str) -> None:
        _known(f"{where}: evaluation", evaluation, self.evaluate)
        for value in values:
            _known(f"{where}: value", value, self.evaluate[evaluation].values())

    def shown(self, figure: Figure) -> list[str]:
        """Return the runs of a figure."""
        return list(dict.fromkeys(figure.named_runs)) or list(self.runs)

    @cached_property
    def pairs(self) -> list[tuple[str, str]]:
        """Pairs (run, evaluation) of everything that a table or a figure shows, each once."""
        tables, figures = self.tables.values(), self.figures.values()
        shown = {(run, column.evaluation) for table in tables for run in table.runs for column in table.columns}
        shown |= {(run, figure.evaluation or "") for figure in figures for run in self.shown(figure)}
        return [(run, evaluation) for run in self.runs for evaluation in self.evaluate if (run, evaluation) in shown]

    @property
    def path(self) -> Path:
        """Path of the study's file."""
        return self._path

    @property
    def included(self) -> "tuple[Study, ...]":
        """Studies of `include`."""
        return self._included

    def key_of(self, run: str) -> str:
        """Return the run's key in its file, without the seed of `seeds`."""
        return self._bases.get(run, run)

    @property
    def has_seeds(self) -> bool:
        """True if `seeds` expanded a run into several, see `key_of`."""
        return bool(self._bases)

    def evaluations_of(self, run: str) -> list[str]:
        """Return the evaluations that a run gets."""
        return [evaluation for one, evaluation in self.pairs if one == run]

    def file_of(self, section: str, name: str) -> Path:
        """Return the file that defines a data set, run or evaluation: the study's own, or one that it includes."""
        owner = next((other for other in self.included if name in getattr(other, section)), None)
        return owner.file_of(section, name) if owner else self.path

    def run(self, name: str) -> Pretrain:
        """Return the settings of a pre-training: `pretrain` with the run's differences laid over it, checked.

        Raises:
            ScfsError: there is no such run, it takes over weights of others, or its settings are wrong.
        """
        source = str(self.path)
        _known("run", name, self.runs, source)
        if self.imported(name) is not None:
            raise ScfsError(f"{source}: run {name!r}: its weights are others', so it cannot be trained")
        settings = parse(Pretrain, merged(self.pretrain, self.runs[name]), f"{source}: runs.{name}")
        _known(f"runs.{name}.dataset", settings.dataset, self.data, source)
        _known(f"runs.{name}.split", settings.split, self.data[settings.dataset].splits, source)
        return settings

    def imported(self, name: str) -> Imported | None:
        """Return which weights of others a run takes over; None for a pre-training."""
        values = self.runs.get(name, {})
        if "weights" not in values:
            return None
        return parse(Imported, values, f"{self.path}: runs.{name}")

    def settings(self, name: str) -> Pretrain | Imported:
        """Return the settings of a run, a pre-training or weights of others."""
        return self.imported(name) or self.run(name)


def _known(what: str, name: str, known: Collection[str], source: str = "") -> None:
    if name not in known:
        where = f"{source}: " if source else ""
        message = f"{where}{what} = {name!r}: not among {sorted(known)}"
        raise ScfsError(message) if source else ValueError(message)


def parse_study(values: Any, source: str = "params.yaml", chain: tuple[Path, ...] = ()) -> Study:
    """Check a study given as plain values, every run included; `chain`: the files that include it.

    Raises:
        ScfsError: one line with the file, the key, the value and what is allowed.
    """
    included = [load_study(Path(file), (*chain, Path(source))) for file in _included(values, source, chain)]
    values, seeded = with_seeds(values, source)
    study = parse(Study, _joined(values, included, source), source)
    study._bases = {run: base for base, runs in seeded.items() for run in runs}
    for other in included:
        study._bases |= other._bases
    study._path, study._included = Path(source), tuple(included)
    for name in study.runs:
        study.settings(name)
    for run, evaluation in study.pairs:  # what would fail after the training is refused before it
        protocol = study.evaluate[evaluation]
        if problem := protocol.problem(study.settings(run), study.data[protocol.dataset]):
            raise ScfsError(f"{study.path}: evaluate.{evaluation} of run {run}: {problem}")
    return study


SHARED = ("data", "runs", "evaluate")
"""Sections that a study takes over from those that it includes."""


def _included(values: Any, source: str, chain: tuple[Path, ...]) -> list[str]:
    files = values.get("include", []) if isinstance(values, dict) else []
    if not (isinstance(files, list | tuple) and all(isinstance(file, str) for file in files)):
        raise ScfsError(f"{source}: include = {files!r}: a list of files is expected")
    before = {os.path.realpath(path) for path in (*chain, Path(source))}
    for file in (file for file in files if os.path.realpath(file) in before):
        raise ScfsError(f"{source}: include = {files!r}: {file} includes this file, or is it")
    return list(files)


def _joined(values: Any, included: list[Study], source: str) -> Any:
    """Join the study's values with the others' data sets, runs (all settings written out) and evaluations.

    Raises:
        ScfsError: a name is defined twice, or the others compute with another number of threads.
    """
    if not included or not isinstance(values, dict):
        return values
    result = dict(values)
    origins: set[tuple[str, str, Path]] = set()
    for other in included:
        threads = values.get("torch_threads", 1)
        if other.torch_threads != threads:
            raise ScfsError(
                f"{source}: torch_threads = {threads!r}: the included study {other.study} has {other.torch_threads}"
            )
        for section in SHARED:
            taken, own = getattr(other, section), result.get(section, {})
            if not isinstance(own, dict):
                continue  # the schema will say it
            for name in sorted(taken):
                origin = (section, name, other.file_of(section, name))
                if name in own and origin not in origins:  # it is there where two studies include the same third one
                    raise ScfsError(f"{source}: {section}.{name}: defined by the included study {other.study} already")
                origins.add(origin)
            plain = {name: other.settings(name) if section == "runs" else taken[name] for name in taken}
            result[section] = {n: item.model_dump(mode="json") for n, item in plain.items()} | own
    return result


def read_yaml(path: Path) -> Any:
    """Return the plain values of a YAML file.

    Raises:
        ScfsError: the file is missing, is not UTF-8 or not YAML.
    """
    with reading(path), refusing(f"{path}: not UTF-8 text", UnicodeDecodeError):
        text = path.read_text(encoding="utf-8")
    with refusing(f"{path}: not valid YAML", yaml.YAMLError):
        return load_yaml(text)


def load_study(path: Path, chain: tuple[Path, ...] = ()) -> Study:
    """Read and check a study's params.yaml; `chain`: the files that include it.

    Raises:
        ScfsError: the file cannot be read (see `read_yaml`) or breaks the schema.
    """
    return parse_study(read_yaml(path), str(path), chain)


def params_schema() -> dict[str, Any]:
    """Return the JSON schema (2020-12) of a study; shared settings and runs may leave out any key of Pretrain."""
    _, schema = models_json_schema([(Study, "validation"), (Pretrain, "validation"), (Imported, "validation")])
    definitions = schema["$defs"]
    definitions["Pretrain"].pop("required")
    study = definitions.pop("Study")
    settings = {"$ref": "#/$defs/Pretrain"}
    study["properties"]["pretrain"].update(settings)
    run = {"anyOf": [settings, {"$ref": "#/$defs/Imported"}]}
    study["properties"]["runs"]["patternProperties"] = {NAME: run}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **study, "$defs": definitions}
