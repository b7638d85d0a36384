"""Tables of a study: measured values with their identities, and the paper's numbers beside them, never among them."""

from math import inf
from pathlib import Path
from statistics import fmean, stdev
from textwrap import fill
from typing import Any

from scfs import paths
from scfs.config.identity import evaluate_identity, pretrain_identity
from scfs.config.report import Column, Row
from scfs.config.report import Table as TableConfig
from scfs.config.study import Study
from scfs.errors import ScfsError
from scfs.io.atomic import write_json, write_text
from scfs.io.text_table import aligned
from scfs.report import paper
from scfs.report.results import PRETRAIN, read_result, read_training, read_value

Cell = dict[str, Any]
Table = dict[str, Any]

ORIGINS = {"evaluated": "Evaluated from weights that others trained", "cited": "Only cited, nothing measured here"}
OTHER_SCALE = "another scale"
NO_NUMBER = "–"


def write_table(study: Study, name: str, out: Path) -> None:
    """Write a table as JSON to `out`, as a GitHub table beside it (.md), and our means alone (.metrics.json).

    Raises:
        ScfsError: the study has no such table, or a result is missing or holds no such value.
    """
    table = build_table(study, name)
    measured = [row for row in table["rows"] if row["runs"]]
    means = {row["label"]: {cell["label"]: cell["mean"] for cell in row["cells"]} for row in measured}
    write_json(paths.metrics(study.study, name), means)
    write_text(out.with_suffix(".md"), render_markdown(table))
    write_json(out, table)


def render_text(study: Study, name: str) -> str:
    """Render a table as aligned plain text for a terminal.

    Raises:
        ScfsError: as write_table.
    """
    table = build_table(study, name)
    ours = [["", "n", *(column["label"] for column in table["columns"])]]
    ours += [[row["label"], str(row["n"]), *map(_starred, row["cells"])] for row in table["rows"]]
    blocks = [(f"study {table['study']}", aligned(ours))]
    if table["paper_columns"]:
        numbers = [[column["label"] for column in table["paper_columns"]]]
        numbers += [[format_number(value) for value in row["paper"]] for row in table["rows"]]
        blocks.append((paper_heading(table), aligned(numbers, left=())))
    lines = [" | ".join(parts).rstrip() for parts in zip(*(_block(*block) for block in blocks))]
    width = max(100, max(map(len, lines)))
    remarks = unexpected(study.tables[name], table) + notes(table) + scale_note(table)
    said = [fill(note, width, subsequent_indent="  ") for note in remarks]
    return "\n".join([table["title"], *lines, *said])


def unexpected(config: TableConfig, table: Table) -> list[str]:
    """Name each mean outside of the range that the study expects, one line each."""
    return [
        f"! {row.label}, {cell['label']}: {cell['mean']:.{cell['digits']}f}, expected are {low:g} to {high:g}"
        for row, built in zip(config.rows, table["rows"], strict=True)
        for cell in built["cells"]
        for low, high in [row.expected.get(cell["label"], (-inf, inf))]
        if cell["n"] and not low <= cell["mean"] <= high
    ]


def _block(heading: str, lines: list[str]) -> list[str]:
    """Put a heading over the middle of lines, all of equal width."""
    width = max(len(heading), *map(len, lines))
    return [heading.center(width), *(line.rjust(width) for line in lines)]


def build_table(study: Study, name: str) -> Table:
    """Collect everything that a table shows, as plain values.

    Keys: `columns` (ours), `column_notes` (texts), `paper_columns`, and `rows`, each with `cells` (mean, sd, n, values
    by run, the paper's number, best) in the order of `columns` and `paper` (numbers) in the order of `paper_columns`;
    `identities` by run.

    Raises:
        ScfsError: as write_table.
    """
    if name not in study.tables:
        raise ScfsError(f"study {study.study}: table {name!r}: not among {sorted(study.tables)}")
    table = study.tables[name]
    paper_columns = _paper_columns(table)
    columns = [{**column.model_dump(), "kind": study.evaluate[column.evaluation].kind} for column in table.columns]
    rows = [
        {
            "label": row.label,
            "runs": list(row.runs),
            "n": len(row.runs),
            "origin": _origin(study, row),
            "cells": [_cell(study, row, column) for column in table.columns],
            "paper": [paper.number(row.paper, key) for key in paper_columns],
            "paper_row": row.paper.model_dump() if row.paper else None,
        }
        for row in table.rows
    ]
    _mark_best(rows)
    return {
        "study": study.study,
        "table": name,
        "title": table.title,
        "scale": study.scale,
        "columns": columns,
        "column_notes": column_notes(study, table),
        "paper_columns": [{"column": key, "label": paper.column_label(key)} for key in paper_columns],
        "rows": rows,
        "identities": _identities(study, table),
    }


def _origin(study: Study, row: Row) -> str:
    """Name the origin of a row's weights: reproduced here, evaluated from others' weights, or only cited."""
    if not row.runs:
        return "cited"
    imported = [run for run in row.runs if study.imported(run) is not None]
    own = ("run" in read_result(study, run, PRETRAIN).get("source", {}) for run in imported)  # ours may be imported too
    return "reproduced" if all(own) else "evaluated"


def _cell(study: Study, row: Row, column: Column) -> Cell:
    shown = study.evaluate[column.evaluation].values()[column.value]
    values = {run: read_value(study, run, column.evaluation, column.value) for run in row.runs}
    return {
        "label": column.label,
        "value": column.value,
        "mean": fmean(values.values()) if values else None,
        "sd": stdev(values.values()) if len(values) > 1 else None,
        "n": len(values),
        "values": values,
        "paper": paper.number(row.paper, column.paper),
        "digits": shown.digits,
        "better": shown.better,
        "best": False,
    }


def _paper_columns(table: TableConfig) -> list[str]:
    """List the paper's columns to which the table has a counterpart, each once."""
    keys = dict.fromkeys(column.paper for column in table.columns if column.paper)
    return list(keys) if any(row.paper for row in table.rows) else []


def _mark_best(rows: list[dict[str, Any]]) -> None:
    """Mark the best mean of each column: the greatest, or the least where less is better.

    Only where every row has several seeds, as n = 1 is never ranked; and no standard deviation is.
    """
    measured = [row for row in rows if row["n"]]
    if len(measured) < 2 or any(row["n"] == 1 for row in measured):
        return
    for cells in zip(*(row["cells"] for row in measured)):
        if cells[0]["better"]:
            best = (max if cells[0]["better"] == "more" else min)(cell["mean"] for cell in cells)
            for cell in cells:
                cell["best"] = cell["mean"] == best


def _identities(study: Study, table: TableConfig) -> dict[str, Any]:
    """Collect by run the hash of its settings, its seed, and the weights, images and protocol of each evaluation."""
    runs = dict.fromkeys(run for row in table.rows for run in row.runs)
    evaluations = dict.fromkeys(column.evaluation for column in table.columns)
    return {
        run: {
            "config": pretrain_identity(study, run),
            "seed": None if study.imported(run) else study.run(run).seed,
            "evaluations": {name: _evaluation_identity(study, run, name) for name in evaluations},
        }
        for run in runs
    }


def _evaluation_identity(study: Study, run: str, name: str) -> dict[str, Any]:
    result, training = read_result(study, run, name), read_training(study, run, name)
    return {
        "kind": study.evaluate[name].kind,
        "protocol": evaluate_identity(study, name),
        "stage_version": result.get("stage_version"),
        "weights": result.get("weights"),
        "dataset": result.get("dataset"),
        "seeds": _seeds(result.get("protocol", {})),
        **({"training": training} if training else {}),
    }


def _seeds(protocol: dict[str, Any]) -> list[int] | None:
    """Seeds of a protocol's repetitions; None for one that draws nothing."""
    if "seed" in protocol:
        return [protocol["seed"] + trial for trial in range(protocol.get("trials", 1))]
    return protocol.get("seeds")


def format_cell(cell: Cell) -> str:
    """Write a measured value: its mean, and ± standard deviation where there are several seeds."""
    spread = "" if cell["sd"] is None else f" ± {format_number(cell['sd'], cell['digits'])}"
    return format_number(cell["mean"], cell["digits"]) + spread


def format_number(value: float | None, digits: int = 1) -> str:
    """Write a number, by default with the decimal that the paper prints; a dash where there is none."""
    return NO_NUMBER if value is None else f"{value:.{digits}f}"


def _starred(cell: Cell) -> str:
    return format_cell(cell) + ("*" if cell["best"] else " " if cell["n"] > 1 else "")


def paper_heading(table: Table) -> str:
    """Heading over the paper's columns."""
    return f"paper ({OTHER_SCALE})" if table["scale"] else "paper"


def notes(table: Table) -> list[str]:
    """List the footnotes of a table: seeds, ranking, protocols, and the source of the paper's numbers."""
    counts = {row["n"] for row in table["rows"]} - {0}
    lines = ["n = 1: one pre-training seed per row, so rows are not ranked."] if counts == {1} else []
    if max(counts, default=0) > 1:
        best = "some rows have n = 1, so rows are not ranked" if 1 in counts else "the best mean of a column stands out"
        lines.append(f"Mean ± standard deviation over n pre-training seeds; {best}.")
    for origin, said in ORIGINS.items():
        labels = [row["label"] for row in table["rows"] if row["origin"] == origin]
        if labels:
            lines.append(f"{said}: {', '.join(labels)}.")
    lines += table["column_notes"]
    if table["paper_columns"]:
        cited: dict[str, dict[str, None]] = {}
        for row in (row["paper_row"] for row in table["rows"] if row["paper_row"]):
            cited.setdefault(row["table"], {})[row["row"]] = None
        sources = "; ".join(f"{paper.title(key)}, rows {', '.join(rows)}" for key, rows in cited.items())
        lines.append(f"Paper: {paper.CITATION}, {sources}.")
    return lines


def scale_note(table: Table) -> list[str]:
    """Say why the paper's numbers are not to be compared with ours; nothing where they may be."""
    if not (table["scale"] and table["paper_columns"]):
        return []
    return [f"The paper's numbers are at {OTHER_SCALE} and not to be compared with ours: {table['scale']}"]


def render_markdown(table: Table) -> str:
    """Render a table as a GitHub table."""
    prefix = f"{paper_heading(table)}: "
    headings = ["", "n", *(column["label"] for column in table["columns"])]
    headings += [prefix + column["label"] for column in table["paper_columns"]]
    lines = [f"**{table['title']}**", "", _piped(headings), _piped(["---"] + ["---:"] * (len(headings) - 1))]
    for row in table["rows"]:
        cells = [f"**{format_cell(cell)}**" if cell["best"] else format_cell(cell) for cell in row["cells"]]
        lines.append(_piped([row["label"], str(row["n"]), *cells, *map(format_number, row["paper"])]))
    return "\n".join([*lines, "", *(f"{note}  " for note in notes(table) + scale_note(table))]).rstrip() + "\n"


def _piped(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def column_notes(study: Study, table: TableConfig) -> list[str]:
    """List what the evaluations have to say of their numbers, each line with the headings of the columns.

    A standard deviation within a run (X_sd) is not shown beside the mean, as ± stands for that over pre-training
    seeds alone. It can be had as a column of its own, such as box_ap_sd, which needs no such line.
    """
    labels: dict[str, list[str]] = {}
    for column in table.columns:
        if not column.value.endswith("_sd"):
            labels.setdefault(column.evaluation, []).append(column.label)
    remarks = {name: study.evaluate[name].remarks(name) for name in labels}
    return [f"{', '.join(labels[name])}: {text}" for name, texts in remarks.items() for text in texts]
