"""The report: one HTML file that holds everything it shows, and asks nothing of the network."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scfs import paths
from scfs.config.study import Study
from scfs.io.atomic import write_text
from scfs.io.templates import filled_in
from scfs.report import provenance
from scfs.report.dataset_cards import counts_of, dataset_cards, extent
from scfs.report.embed import THEME, VARIABLES, inline_png, inline_svg
from scfs.report.plot_styles import plot_styles, runs_in_order
from scfs.report.tables import build_table, format_number, notes, render_text

FACTS = {
    "Settings": (provenance.settings_of, ("method", "seed")),
    "Training in evaluations": (provenance.trainings_of, ()),
    "Identity": (provenance.identities_of, ("identity",)),
    "Execution": (provenance.machines_of, ()),
}
"""Facts of the runs by their heading, and those that are shown for each run even if all runs share them."""


def write_report(study: Study, out: Path) -> None:
    """Write the report. It contains times, so two reports of the same results are not the same bytes.

    Raises:
        ScfsError: a result is missing; the line names the file and the stage that writes it.
    """
    write_text(out, filled_in(Path(__file__).with_name("page.html.j2"), **_context(study)))


def print_summary(study: Study) -> str:
    """Write all tables as text, and the path of the report.

    Raises:
        ScfsError: a result is missing.
    """
    tables = [render_text(study, name) for name in study.tables]
    return "\n\n".join([*tables, f"Report: {paths.report(study.study)}"])


def _context(study: Study) -> dict[str, Any]:
    found = {part: provenance.differences(collect(study), always) for part, (collect, always) in FACTS.items()}
    common = {part: shared for part, (_, shared) in found.items()}
    return {
        "study": study,
        "provenance": provenance,
        "theme": THEME,
        "tables": [_table(study, name) for name in study.tables],
        "figures": list(_figures(study)),
        "data": list(dataset_cards(study)),
        "runs": runs_in_order(study),
        "colours": {run: VARIABLES[style.colour] for style in plot_styles(study) for run in style.runs},
        "facts": {part: different for part, (different, _) in found.items()},
        "common": {"Images and machine": {**common.pop("Identity"), **common.pop("Execution")}, **common},
        **{"number": format_number, "counts_of": counts_of, "extent": extent},
    }


def _table(study: Study, name: str) -> dict[str, Any]:
    """Build a table; `share` is the length of a value's bar: percent of its column's greatest."""
    table = build_table(study, name)
    for cells in zip(*(row["cells"] for row in table["rows"])):
        means = [max(cell["mean"] or 0, 0) for cell in cells]
        for cell, mean in zip(cells, means, strict=True):
            cell["share"] = f"{100 * mean / max(means):.1f}" if mean else "0"
    return {**table, "notes": notes(table)}


def _figures(study: Study) -> Iterator[dict[str, Any]]:
    """Draw the study's figures, in its order."""
    for name, figure in study.figures.items():
        drawing, title = figure.draw(study), figure.title or figure.heading
        picture = inline_svg(drawing, name, title) if figure.format == "svg" else inline_png(drawing, title)
        yield {"id": name, "title": title, "caption": figure.caption, "picture": picture, "narrow": figure.narrow}
