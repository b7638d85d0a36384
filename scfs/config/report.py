"""What a study shows: tables with rows and columns, and figures."""

from typing import Literal, Self

from pydantic import Field, model_validator

from scfs.config.base import Config


class PaperRow(Config):
    """A row of one of the paper's tables (scfs/report/paper_tables.yaml)."""

    table: str
    """Key of the table, such as table7."""
    row: str
    """The row's first column."""
    column: str | None = None
    """The number's column, where it is another one than that of the same meaning (Table 9: the scale)."""


class Row(Config):
    """A line of a table of ours."""

    label: str
    """First column."""
    runs: tuple[str, ...] = ()
    """Runs that are averaged: one per seed. None: the row is only cited from the paper."""
    paper: PaperRow | None = None
    """The paper's row that this one answers to."""

    @model_validator(mode="after")
    def _shows_something(self) -> Self:
        if not self.runs and self.paper is None:
            raise ValueError(f"row {self.label!r}: runs and paper are both missing: it would show nothing")
        return self


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


class Point(Config):
    """One place of a curve over a setting."""

    x: float
    """Value of the setting."""
    runs: tuple[str, ...] = Field(min_length=1)
    """Runs that are averaged: one per seed."""


class Figure(Config):
    """A figure of the report."""

    kind: Literal["curves", "layers", "attention", "sweep", "class_probabilities", "detections", "precision_recall"]
    """curves: of the training. layers: the paper's Fig. 4. attention: Fig. 3. class_probabilities: Fig. 1. sweep: a
    value over a setting, as Fig. 5. detections: found boxes and masks beside the true ones. precision_recall: precision
    over recall by class."""
    title: str = ""
    """Heading; by default that of the kind."""
    evaluation: str | None = None
    """Key of the study's `evaluate`; curves have none."""
    runs: tuple[str, ...] = ()
    """Runs that are shown; none: all of the study."""
    value: str | None = None
    """sweep: key within the evaluation's values."""
    axis: str | None = None
    """sweep: name of the setting."""
    points: dict[str, tuple[Point, ...]] = {}
    """sweep: places of each line, by its label."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.kind == "curves") != (self.evaluation is None):
            raise ValueError("evaluation must be given, but not for the kind curves")
        wanted = self.kind == "sweep"
        if any(bool(part) != wanted for part in (self.value, self.axis, self.points)) or (wanted and self.runs):
            raise ValueError("value, axis and points must be given for the kind sweep, without runs, and for no other")
        return self


SHOWN_EVALUATION = {
    "layers": "layers",
    "attention": "attention",
    "class_probabilities": "class_probabilities",
    "detections": "detection",
    "precision_recall": "detection",
}
"""Kind of evaluation that each kind of figure shows; a sweep shows any."""
