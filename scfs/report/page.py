"""The report: one HTML file that holds everything it shows, and asks nothing of the network."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from scfs import paths
from scfs.config.study import Study
from scfs.io.atomic import write_text
from scfs.report import provenance
from scfs.report.dataset_cards import dataset_cards
from scfs.report.embed import inline_png, inline_svg, theme, themed
from scfs.report.plot_styles import plot_styles, runs_in_order
from scfs.report.tables import NO_NUMBER, build_table, format_paper, notes, render_text

TEMPLATE = "page.html.j2"


def write_report(study: Study, out: Path) -> None:
    """Write the report. It contains times, so two reports of the same results are not the same bytes.

    Raises:
        ScfsError: a result is missing; the line names the file and the stage that writes it.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    write_text(out, environment.get_template(TEMPLATE).render(_context(study)))


def print_summary(study: Study) -> str:
    """Write all tables as text, and the path of the report.

    Raises:
        ScfsError: a result is missing.
    """
    tables = [render_text(study, name) for name in study.tables]
    return "\n\n".join([*tables, f"Report: {paths.report(study.study)}"])


def _context(study: Study) -> dict[str, Any]:
    settings, common_settings = provenance.differences(provenance.settings_of(study), always=("method", "seed"))
    identities, common_identities = provenance.differences(provenance.identities_of(study), always=("identity",))
    trainings, common_trainings = provenance.differences(provenance.trainings_of(study))
    machines, common_machines = provenance.differences(provenance.machines_of(study))
    times = provenance.times(study)
    return {
        "study": study.study,
        "scale": study.scale,
        "light": theme(dark=False),
        "dark": theme(dark=True),
        "tables": [_table(study, name) for name in study.tables],
        "warnings": provenance.warnings(study),
        "figures": list(_figures(study)),
        "data": list(_data(study)),
        "runs": _runs(study),
        "facts": {
            "Settings": settings,
            "Training in evaluations": trainings,
            "Identity": identities,
            "Execution": machines,
        },
        "common": {
            "Images and machine": {**common_identities, **common_machines},
            "Training in evaluations": common_trainings,
            "Settings": common_settings,
        },
        "times": times,
        "stages": list(dict.fromkeys(stage for row in times for stage, _ in row["stages"])),
        "longest": max((row["total"] for row in times), default=0) or 1,
        "total_time": sum(row["total"] for row in times),
        "protocols": provenance.protocols(study),
        "drawn_prototypes": provenance.with_drawn_prototypes(study),
        "kinds": {protocol.kind for protocol in study.evaluate.values()},
        "reproduce": _reproduce(study),
        "duration": provenance.duration,
    }


def _table(study: Study, name: str) -> dict[str, Any]:
    """Write out the numbers of a table; `share` is a value's length as a bar: percent of its column's greatest."""
    table = build_table(study, name)
    columns = zip(*(row["cells"] for row in table["rows"]))
    greatest = [max((cell["mean"] for cell in cells if cell["n"]), default=0) for cells in columns]
    colours = {run: themed(style.colour) for style in plot_styles(study) for run in style.runs}
    rows = []
    for row in table["rows"]:
        cells = []
        for cell, most in zip(row["cells"], greatest):
            digits = cell["digits"]
            if not cell["n"]:
                cells.append({"mean": NO_NUMBER, "sd": "", "best": False, "share": "0", "runs": ""})
                continue
            cells.append(
                {
                    "mean": f"{cell['mean']:.{digits}f}",
                    "sd": "" if cell["sd"] is None else f"{cell['sd']:.{digits}f}",
                    "best": cell["best"],
                    "share": f"{100 * max(cell['mean'], 0) / most:.1f}" if most > 0 else "0",
                    "runs": "; ".join(f"{run}: {value:.{digits + 1}f}" for run, value in cell["values"].items()),
                }
            )
        paper = [format_paper(number) for number in row["paper"]]
        rows.append(
            {**row, "cells": cells, "paper": paper, "colour": colours[row["runs"][0]] if row["runs"] else "none"}
        )
    return {**table, "rows": rows, "notes": notes(table)}


def _runs(study: Study) -> list[dict[str, str]]:
    """List the runs in the order of the tables, with their colour in the figures."""
    by_run = {run: style for style in plot_styles(study) for run in style.runs}
    return [
        {"name": run, "label": by_run[run].label, "colour": themed(by_run[run].colour)} for run in runs_in_order(study)
    ]


def _figures(study: Study) -> Iterator[dict[str, Any]]:
    """Draw the study's figures, in its order."""
    for name, figure in study.figures.items():
        drawing, title = figure.draw(study), figure.title or figure.heading
        picture = inline_svg(drawing, name, title) if figure.format == "svg" else inline_png(drawing, title)
        yield {"id": name, "title": title, "caption": figure.caption, "picture": picture, "narrow": figure.narrow}


def _data(study: Study) -> Iterator[dict[str, Any]]:
    """Show the study's data sets: numbers, warnings, pictures."""
    for card in dataset_cards(study):
        name, pictures = card.name, [inline_png(card.contact, f"{card.name}: some images of each split")]
        if card.histogram:
            pictures.append(inline_svg(card.histogram, f"data-{name}", f"{name}: classes"))
        yield {"name": name, "rows": card.rows, "warnings": card.warnings, "pictures": pictures}


def _reproduce(study: Study) -> str:
    if study.study == "demo":
        return "make demo"
    return f"snakemake --cores 2 --configfile config/{study.study}/params.yaml"
