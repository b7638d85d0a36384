"""Tables and figures of a study."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from scfs.config.base import ORDERED, Config
from scfs.config.registry import KindRegistry


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
    expected: dict[str, Annotated[tuple[float, float], ORDERED]] = {}
    """Least and largest mean, by the column's label, that a sound repetition has: `scfs summary` marks any other."""

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

    @model_validator(mode="after")
    def _expects_what_it_shows(self) -> Self:
        labels = [column.label for column in self.columns]
        for row in self.rows:
            if unknown := sorted(row.expected.keys() - set(labels)):
                raise ValueError(f"row {row.label!r}: expected: {unknown[0]!r}: not among the columns {labels}")
        return self

    @property
    def runs(self) -> list[str]:
        """Runs of all rows, each once."""
        return list(dict.fromkeys(run for row in self.rows for run in row.runs))


class Figure(Config):
    """A figure of the report. Each kind is a class in FIGURES, in the module that draws it (scfs/report/figures)."""

    heading: ClassVar[str]
    """Title of a figure to which the study gives none."""
    format: ClassVar[Literal["svg", "png"]] = "svg"
    """Format of the file: PNG for figures that are made of images."""
    narrow: ClassVar[bool] = False
    """True if the report shows it less wide than the page."""
    shows: ClassVar[str | None] = None
    """Kind of evaluation that it shows; None: any, or none."""

    kind: str
    """Kind of figure."""
    title: str = ""
    """Heading; by default that of the kind."""
    evaluation: str | None = None
    """Key of the study's `evaluate`."""
    runs: tuple[str, ...] = ()
    """Runs to show; none: all of the study."""

    @property
    def caption(self) -> str:
        """Text below the figure, for a reader who has not seen one of its kind: what its class says of itself."""
        return " ".join((type(self).__doc__ or "").split())

    @property
    def named_runs(self) -> tuple[str, ...]:
        """Runs that its settings name; none: it shows all of the study."""
        return self.runs

    @property
    def named_values(self) -> tuple[str, ...]:
        """Values of the evaluation that its settings name."""
        return ()

    def draw(self, study: Any) -> bytes:
        """Draw the figure as a file of its `format`.

        Args:
            study: the study (`scfs.config.study.Study`, which stands above this module).

        Raises:
            ScfsError: a result is missing, or is not of the run's present weights and settings.
        """
        raise NotImplementedError


FIGURES: KindRegistry[Figure] = KindRegistry("kind")
"""Kinds of figures."""
AnyFigure = Annotated[Figure, FIGURES]
