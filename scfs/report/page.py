"""The report: one HTML file that holds everything it shows, and asks nothing of the network."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from scfs import paths
from scfs.config.study import Study
from scfs.io.atomic import write_text
from scfs.report import provenance
from scfs.report.data_sheets import data_sheets
from scfs.report.figures import DRAWINGS
from scfs.report.figures.detections import MOST_OBJECTS, SHOWN_SCORE
from scfs.report.figures.embed import inline_svg, png_uri, theme, themed
from scfs.report.figures.precision_recall import BEST, MOST_PANELS, WORST
from scfs.report.figures.series import ordered_runs, series_of
from scfs.report.tables import NO_NUMBER, build_table, format_paper, notes, render_text

TEMPLATE = "page.html.j2"
TITLES = {
    "curves": "Training",
    "attention": "Search attention",
    "layers": "Accuracy by layer",
    "sweep": "Over a setting",
    "class_probabilities": "Class probabilities",
    "detections": "Detections",
    "precision_recall": "Precision over recall",
}
CAPTIONS = {
    "curves": "Means over each epoch. A data loss at ln K (dotted) is that of a network that tells nothing apart; a "
    "teacher entropy near 0 is a collapse. Random weights have no curve.",
    "attention": "Mean search attention map of the four local views (2 × 2 jigsaw) over the clean view, as in the "
    "paper’s Fig. 3. Each map is stretched from its own least (dark) to its greatest cosine (bright); both are written "
    "below it. With several seeds, the first one’s maps are shown.",
    "sweep": "Points are means over seeds, bars one standard deviation, as in the paper’s Fig. 5.",
    "class_probabilities": "Class probabilities of a supervised model for an image, an over-augmented crop of it, and "
    "what the crop’s feature finds in the image, as in the paper’s Fig. 1.",
    "layers": "k-NN on the pooled maps of single layers, as in the paper’s Fig. 4 (its Res2, Res3, Res4).",
    "detections": "Objects of some test images, and what a detector that starts from each run’s weights finds there "
    f"with a score of {SHOWN_SCORE} or more; in a crowded picture the {MOST_OBJECTS} largest and surest. Colours tell "
    "classes apart within the figure. With several seeds, the first one’s detections are shown.",
    "precision_recall": "Boxes, and dashed masks where there are any, at IoU 0.5. The numbers are AP50 in percent, of "
    "boxes / of masks. With several seeds, the mean of their precisions at each recall. Of more than "
    f"{MOST_PANELS} classes, their mean and the {BEST} best and {WORST} worst by the AP50 of boxes, mean over the "
    "configurations.",
}


@dataclass(frozen=True)
class Embedded:
    """A figure of the page: an SVG element, or a PNG as a data URI."""

    id: str
    title: str
    caption: str
    svg: str = ""
    png: str = ""
    narrow: bool = False


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
    """All tables as text, and the path of the report.

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
        "figures": _figures(study),
        "data": _data(study),
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
    """A table with its numbers written out; `share` is a value's length as a bar: percent of its column's greatest."""
    table = build_table(study, name)
    columns = zip(*(row["cells"] for row in table["rows"]))
    greatest = [max((cell["mean"] for cell in cells if cell["n"]), default=0) for cells in columns]
    colours = {run: themed(series.colour) for series in series_of(study) for run in series.runs}
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
    """Runs in the order of the tables with their colour in the figures."""
    by_run = {run: series for series in series_of(study) for run in series.runs}
    return [
        {"name": run, "label": by_run[run].label, "colour": themed(by_run[run].colour)} for run in ordered_runs(study)
    ]


def _figures(study: Study) -> list[Embedded]:
    """The study's figures, in its order."""
    embedded = []
    for name, figure in study.figures.items():
        drawing, title = DRAWINGS[figure.kind](study, figure), figure.title or TITLES[figure.kind]
        is_svg = paths.figure(study.study, name, figure.kind).suffix == ".svg"
        picture = {"svg": inline_svg(drawing, name, title)} if is_svg else {"png": png_uri(drawing)}
        narrow = figure.kind in ("layers", "sweep")
        embedded.append(Embedded(name, title, CAPTIONS[figure.kind], **picture, narrow=narrow))
    return embedded


def _data(study: Study) -> list[dict[str, Any]]:
    """The study's data sets: numbers, warnings, pictures."""
    return [
        {
            "name": sheet.name,
            "rows": sheet.rows,
            "warnings": sheet.warnings,
            "contact": png_uri(sheet.contact),
            "histogram": sheet.histogram
            and inline_svg(sheet.histogram, f"data-{sheet.name}", f"{sheet.name}: classes"),
        }
        for sheet in data_sheets(study)
    ]


def _reproduce(study: Study) -> str:
    if study.study == "demo":
        return "make demo"
    return f"snakemake --cores 2 --configfile config/{study.study}/params.yaml"
