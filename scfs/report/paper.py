"""Numbers of the paper (Song et al., ICCV 2023): paper_tables.yaml holds all of its Tables 1 to 10."""

from functools import cache
from pathlib import Path
from typing import Any

from scfs.config.report import PaperRow
from scfs.config.strict_yaml import load_yaml
from scfs.config.study import Study
from scfs.errors import ScfsError, refusing

CITATION = "Song et al., ICCV 2023"
SOURCE = "scfs/report/paper_tables.yaml"


@cache
def read(name: str) -> dict[str, Any]:
    """Read a file of the paper's: paper_tables.yaml, or the headings of its columns, paper_columns.yaml."""
    content: dict[str, Any] = load_yaml(Path(__file__).with_name(name).read_text(encoding="utf-8"))
    return content


def title(table: str) -> str:
    """Name a table for a reader: "Table 7" for table7."""
    return table.replace("table", "Table ")


def column_label(column: str) -> str:
    """Give the heading of one of the paper's columns."""
    return str(read("paper_columns.yaml").get(column, column))


def number(reference: PaperRow | None, column: str | None) -> float | None:
    """Look up the paper's number in a row and column; None where the paper has none, or none is named.

    A row is named by its first column ("SCFS"; "Res2+Res3" where that is a list). Where several rows share it, the
    columns that follow are added: "SCFS, 256, 200".

    Raises:
        ScfsError: the table, the row or the column does not exist, the row's name fits several, or it is not a number.
    """
    if reference is None or column is None:
        return None
    columns = _table(reference)["columns"]
    column = reference.column or column
    place = f"{SOURCE}: {reference.table}: column {column!r}"
    if column not in columns:
        raise ScfsError(f"{place}: not among {columns}")
    value = _row(reference)[columns.index(column)]
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ScfsError(f"{place} of row {reference.row!r} is no number: {value!r}")
    return float(value)


def check(study: Study, source: str) -> None:
    """Resolve all rows and columns of the paper that a study names, before anything is computed for them.

    Raises:
        ScfsError: as `number`; the line names `source` and the study's table.
    """
    for name, table in study.tables.items():
        for reference in (row.paper for row in table.rows if row.paper):
            with refusing(f"{source}: tables.{name}", ScfsError):
                _row(reference)
                for column in table.columns:
                    number(reference, column.paper)


def _table(reference: PaperRow) -> dict[str, Any]:
    known = read("paper_tables.yaml")
    if reference.table not in known:
        raise ScfsError(f"{SOURCE}: table {reference.table!r}: not among {list(known)}")
    table: dict[str, Any] = known[reference.table]
    return table


def _row(reference: PaperRow) -> list[Any]:
    rows: list[list[Any]] = _table(reference)["rows"]
    parts = reference.row.split(", ")
    found = [row for row in rows if [_text(value) for value in row[: len(parts)]] == parts]
    if len(found) == 1:
        return found[0]
    names = [_text(row[0]) for row in rows] if not found else [", ".join(map(_text, row)) for row in found]
    problem = "is the name of several" if found else "not among"
    raise ScfsError(f"{SOURCE}: {reference.table}: row {reference.row!r}: {problem} {names}")


def _text(value: Any) -> str:
    return "+".join(value) if isinstance(value, list) else str(value)
