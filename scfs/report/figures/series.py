"""How runs appear in every figure: one label, colour and marker per configuration; its seeds share them."""

from collections.abc import Collection
from dataclasses import dataclass, replace

from scfs.config.identity import canonical
from scfs.config.study import Study

# Okabe and Ito's colours, which the common kinds of colour blindness keep apart; lighter ones for a dark page.
LIGHT = ("#0072b2", "#d55e00", "#009e73", "#aa4499", "#e69f00", "#56b4e9")
DARK = ("#4aa8e8", "#ff8f4f", "#35c79a", "#e08fd0", "#f2bd4b", "#9ad7f7")
UNTRAINED_LIGHT, UNTRAINED_DARK = "#83888f", "#9aa0a8"
MARKERS = "os^Dv*"


@dataclass(frozen=True)
class Series:
    """One configuration in a figure."""

    label: str
    """Label of the first table's row that shows it, or the run's name."""
    runs: tuple[str, ...]
    """Its runs, one per seed."""
    colour: str
    """Colour on a light page; grey for weights that were not trained."""
    marker: str
    """Marker, so that colour is never the only difference."""
    trained: bool
    """False for random initial weights (epochs 0)."""


def ordered_runs(study: Study) -> list[str]:
    """All runs, in the order in which the tables' rows show them; those of no table come last."""
    shown = [run for table in study.tables.values() for row in table.rows for run in row.runs]
    return list(dict.fromkeys([*shown, *study.runs]))


def series_of(study: Study, shown: Collection[str] | None = None) -> list[Series]:
    """All configurations of a study, in the order of `ordered_runs`; or those of some runs, in their usual look."""
    series = _all_series(study)
    if shown is None:
        return series
    chosen = [replace(one, runs=tuple(run for run in one.runs if run in shown)) for one in series]
    return [one for one in chosen if one.runs]


def _all_series(study: Study) -> list[Series]:
    groups: dict[str, list[str]] = {}
    for run in ordered_runs(study):
        groups.setdefault(canonical(study.settings(run).model_dump(mode="json", exclude={"seed"})), []).append(run)
    labels = {key: _label(study, runs) for key, runs in groups.items()}
    names, result, coloured = list(labels.values()), [], 0
    for key, runs in groups.items():
        trained = study.imported(runs[0]) is not None or study.run(runs[0]).epochs > 0
        label = labels[key] if names.count(labels[key]) == 1 else runs[0]
        colour = LIGHT[coloured % len(LIGHT)] if trained else UNTRAINED_LIGHT
        # A seventh colour would not be told apart: the second round has the same colours with other markers.
        marker = MARKERS[(coloured + coloured // len(LIGHT)) % len(MARKERS)] if trained else "x"
        result.append(Series(label, tuple(runs), colour, marker, trained))
        coloured += trained
    return result


def _label(study: Study, runs: list[str]) -> str:
    rows = [row for table in study.tables.values() for row in table.rows]
    return next((row.label for row in rows if set(row.runs) & set(runs)), runs[0])
