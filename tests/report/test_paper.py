import re
from typing import Any

import pytest
from fake_results import STUDY

from scfs.config.report import PaperRow
from scfs.config.study import parse_study
from scfs.errors import ScfsError
from scfs.report import paper


def row(table: str, name: str) -> PaperRow:
    return PaperRow(table=table, row=name)


def test_numbers_are_the_papers() -> None:
    assert paper.number(row("table7", "SCFS"), "knn") == 84.8
    assert paper.number(row("table7", "SCFS"), "lp") == 89.2
    assert paper.number(row("table7", "DINO w/o MC"), "lp") == 83.7
    assert paper.number(row("table3", "SCFS"), "ap75") == 63.6
    assert paper.number(row("table9", "DINO"), "0.14-0.25") == 87.2


def test_a_row_that_is_a_list_and_rows_that_share_a_name() -> None:
    assert paper.number(row("table8", "Res2+Res3"), "lp") == 87.5
    assert paper.number(row("table1", "SCFS, 256, 200"), "knn") == 65.5
    assert paper.number(row("table1", "SCFS, 1024, 800"), "knn") == 68.5


def test_a_dash_is_none() -> None:
    assert paper.number(row("table1", "SwAV, 256, 200"), "knn") is None


@pytest.mark.parametrize(
    ("table", "name", "column", "told"),
    [
        ("table77", "SCFS", "knn", r"table 'table77': not among \['table1'"),
        ("table7", "SCFSS", "knn", r"table7: row 'SCFSS': not among \['DINO w/o MC', 'DINO'"),
        ("table1", "SCFS", "knn", r"row 'SCFS': is the name of several \['SCFS, 256, 200, "),
        ("table7", "SCFS", "ap", r"table7: column 'ap': not among \['mode'"),
        ("table7", "SCFS", "gd2gd", r"table7: column 'gd2gd' of row 'SCFS' is no number: True"),
    ],
)
def test_what_does_not_exist_is_named(table: str, name: str, column: str, told: str) -> None:
    with pytest.raises(ScfsError, match=told):
        paper.number(row(table, name), column)


@pytest.mark.parametrize(
    ("changes", "column", "told"),
    [
        ({}, "knn", None),
        ({"row": "SCFSS"}, "knn", "table7: row 'SCFSS': not among"),
        ({"row": "SCFSS"}, None, "table7: row 'SCFSS': not among"),
        ({"table": "table77"}, None, "table 'table77': not among"),
        ({}, "kn", "table7: column 'kn': not among"),
    ],
)
def test_a_studys_references_are_checked_at_once(changes: dict[str, str], column: str | None, told: str | None) -> None:
    columns = [{"label": "k-NN", "evaluation": "knn", "value": "top1", "paper": column}]
    rows: list[dict[str, Any]] = [{"label": "random", "runs": ["random"]}]
    rows.append({"label": "SCFS", "runs": ["scfs"], "paper": {"table": "table7", "row": "SCFS", **changes}})
    study = parse_study({**STUDY, "tables": {"second": {"title": "t", "columns": columns, "rows": rows}}})
    if told is None:
        paper.check(study, "my.yaml")
    else:
        with pytest.raises(ScfsError, match=f"^my.yaml: tables.second: {paper.SOURCE}: {re.escape(told)}"):
            paper.check(study, "my.yaml")


def test_every_row_has_every_column() -> None:
    for name, table in paper.read("paper_tables.yaml").items():
        assert all(len(cells) == len(table["columns"]) for cells in table["rows"]), name
