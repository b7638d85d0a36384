"""Styles of runs in every figure: one label, colour and marker for each configuration; its seeds share them."""

from collections.abc import Collection
from dataclasses import dataclass

from scfs.config.identity import canonical
from scfs.config.study import Study

# Okabe and Ito's colours, which the common kinds of colour blindness keep apart; lighter ones for a dark page.
LIGHT = ("#0072b2", "#d55e00", "#009e73", "#aa4499", "#e69f00", "#56b4e9")
DARK = ("#4aa8e8", "#ff8f4f", "#35c79a", "#e08fd0", "#f2bd4b", "#9ad7f7")
UNTRAINED_LIGHT, UNTRAINED_DARK = "#83888f", "#9aa0a8"
MARKERS = "os^Dv*"


@dataclass(frozen=True)
class PlotStyle:
    """The look of one configuration."""

    label: str
    """Label of the first table's row that shows it, or the run's name."""
    runs: tuple[str, ...]
    """Its runs, one for each seed."""
    colour: str
    """Colour on a light page; grey for weights that were not trained."""
    marker: str
    """Marker, so that colour is never the only difference."""


def runs_in_order(study: Study) -> list[str]:
    """List all runs in the order in which the tables' rows name them; those of no table come last."""
    of_tables = [run for table in study.tables.values() for row in table.rows for run in row.runs]
    return list(dict.fromkeys([*of_tables, *study.runs]))


def plot_styles(study: Study, runs: Collection[str] | None = None) -> list[PlotStyle]:
    """Give every configuration of a study its look, in the order of `runs_in_order`; with `runs`, those of them alone.

    A configuration looks the same whichever runs are asked for.
    """
    groups: dict[str, list[str]] = {}
    for run in runs_in_order(study):
        groups.setdefault(canonical(study.settings(run).model_dump(mode="json", exclude={"seed"})), []).append(run)
    labels = [_label(study, group) for group in groups.values()]
    styles: list[PlotStyle] = []
    coloured = 0
    for label, group in zip(labels, groups.values(), strict=True):
        trained = study.imported(group[0]) is not None or study.run(group[0]).epochs > 0
        colour = LIGHT[coloured % len(LIGHT)] if trained else UNTRAINED_LIGHT
        # A seventh colour would not be told apart: the second round has the same colours with other markers.
        marker = MARKERS[(coloured + coloured // len(LIGHT)) % len(MARKERS)] if trained else "x"
        coloured += trained
        if shown := tuple(run for run in group if runs is None or run in runs):
            styles.append(PlotStyle(label if labels.count(label) == 1 else group[0], shown, colour, marker))
    return styles


def _label(study: Study, runs: list[str]) -> str:
    rows = [row for table in study.tables.values() for row in table.rows]
    return next((row.label for row in rows if set(row.runs) & set(runs)), runs[0])
