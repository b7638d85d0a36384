"""A study: data sets, pre-training runs, evaluations, and the tables they give. One YAML file, checked whole."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import Field, model_validator

from scfs.config.base import NAME, Config, parse
from scfs.config.data import DataSet
from scfs.config.evaluation import Evaluation
from scfs.config.pretrain import Pretrain
from scfs.errors import ScfsError

Name = Annotated[str, Field(pattern=NAME)]


class PaperRow(Config):
    """A row of one of the paper's tables (scfs/report/paper_tables.yaml)."""

    table: str
    """Key of the table, such as table7."""
    row: str
    """The row's first column."""


class Row(Config):
    """A line of a table of ours."""

    label: str
    """First column."""
    runs: tuple[str, ...] = Field(min_length=1)
    """Runs that are averaged: one per seed."""
    paper: PaperRow | None = None
    """The paper's row that this one answers to."""


class Column(Config):
    """A measured column of a table."""

    label: str
    """Heading."""
    evaluation: str
    """Key of the study's `evaluate`."""
    value: str
    """Key within the evaluation's values."""
    paper: str | None = None
    """The paper's column of the same meaning."""


class Table(Config):
    """A table of the report."""

    title: str
    """Caption."""
    columns: tuple[Column, ...] = Field(min_length=1)
    """Measured columns."""
    rows: tuple[Row, ...] = Field(min_length=1)
    """Lines."""


class Study(Config):
    """The whole file."""

    study: Name
    """Name; results go to results/studies/<name>."""
    scale: str = ""
    """What keeps the numbers from being compared with the paper's; empty at the paper's own scale."""
    torch_threads: int = Field(default=1, ge=1)
    """Threads of each training or evaluation process; part of a result's identity, since sums depend on it."""
    data: dict[Name, DataSet]
    """Data sets by name."""
    pretrain: dict[str, Any] = {}
    """Settings shared by all runs; see the class Pretrain."""
    runs: dict[Name, dict[str, Any]]
    """Runs by name: what differs from `pretrain`."""
    evaluate: dict[Name, Evaluation] = {}
    """Evaluations by name; every run gets every one."""
    tables: dict[Name, Table] = {}
    """Tables by name."""

    @model_validator(mode="after")
    def _references_exist(self) -> Self:
        if "pretrain" in self.evaluate:
            raise ValueError("evaluate.pretrain: the name is taken by the record of the pre-training")
        for name, evaluation in self.evaluate.items():
            _known(f"evaluate.{name}.dataset", evaluation.dataset, self.data)
            for split in {evaluation.test, getattr(evaluation, "train", evaluation.test)}:
                _known(f"evaluate.{name}: split", split, self.data[evaluation.dataset].splits)
        for name, table in self.tables.items():
            for column in table.columns:
                _known(f"tables.{name}: evaluation", column.evaluation, self.evaluate)
                _known(f"tables.{name}: value", column.value, self.evaluate[column.evaluation].values())
            for row in table.rows:
                for run in row.runs:
                    _known(f"tables.{name}: run", run, self.runs)
        return self

    def run(self, name: str, source: str = "params.yaml") -> Pretrain:
        """Settings of one run: `pretrain` with the run's differences laid over it, checked."""
        _known("run", name, self.runs, source)
        settings: Pretrain = parse(Pretrain, merged(self.pretrain, self.runs[name]), f"{source}: runs.{name}")
        _known(f"runs.{name}.dataset", settings.dataset, self.data, source)
        _known(f"runs.{name}.split", settings.split, self.data[settings.dataset].splits, source)
        return settings


def _known(what: str, name: str, known: Collection[str], source: str = "") -> None:
    if name not in known:
        where = f"{source}: " if source else ""
        message = f"{where}{what} = {name!r}: not among {sorted(known)}"
        raise ScfsError(message) if source else ValueError(message)


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `over` on `base`, mapping by mapping."""
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def parse_study(values: Any, source: str = "params.yaml") -> Study:
    """Check a study given as plain values, every run included.

    Raises:
        ScfsError: one line with the file, the key, the value and what is allowed.
    """
    study: Study = parse(Study, values, source)
    for name in study.runs:
        study.run(name, source)
    return study


def load_study(path: Path) -> Study:
    """Read and check a study's params.yaml.

    Raises:
        ScfsError: the file is missing, is not UTF-8 or not YAML, or breaks the schema.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ScfsError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ScfsError(f"{path}: not UTF-8 text: {error.reason} at byte {error.start}") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2025-13-01
        raise ScfsError(f"{path}: not valid YAML: {error}") from None
    return parse_study(values, str(path))
