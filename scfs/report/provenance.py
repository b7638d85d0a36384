"""Settings, identities, machines and times of a study's runs, arranged for comparison."""

from collections.abc import Callable, Mapping
from typing import Any

from scfs.config.protocol import Protocol
from scfs.config.study import Study
from scfs.report.plot_styles import runs_in_order
from scfs.report.results import PRETRAIN, read_result, read_run_metadata, read_stage_metadata, read_training

Facts = dict[str, list[str]]
"""A fact's name and its value for each run, in the order of `runs_in_order`."""

UNKNOWN = "–"


def differences(facts: Facts, always: tuple[str, ...] = ()) -> tuple[Facts, dict[str, str]]:
    """Split facts into those that differ between runs (and those named in `always`) and those that all runs share."""
    different = {name: values for name, values in facts.items() if len(set(values)) > 1 or name in always}
    return different, {name: values[0] for name, values in facts.items() if name not in different}


def settings_of(study: Study) -> Facts:
    """Return the settings of every run by dotted key, sorted; `read_result` holds the results to them."""
    flat = [dict(sorted(study.settings(run).flattened().items())) for run in runs_in_order(study)]
    keys = dict.fromkeys(key for settings in flat for key in settings)
    return {key: [text_of(settings.get(key, "")) for settings in flat] for key in keys}


def identities_of(study: Study) -> Facts:
    """Collect what tells every run's pre-training from others: identity, images, weights, code version."""
    results = [read_result(study, run, PRETRAIN) for run in runs_in_order(study)]
    return _written([{"torch_threads": study.torch_threads, **result} for result in results], IDENTITY)


def trainings_of(study: Study) -> Facts:
    """Collect what the evaluations that train recorded of it; a dash for a run without that evaluation.

    Raises:
        ScfsError: a result has no such record.
    """
    facts: Facts = {}
    for name, protocol in study.evaluate.items():
        runs = [run for run, evaluation in study.pairs if evaluation == name]
        records = {run: read_training(study, run, name) for run in runs if protocol.training_record}
        for label, key in protocol.training_facts.items() if records else ():
            of_runs = [text_of(records[run][key]) if run in records else UNKNOWN for run in runs_in_order(study)]
            facts[f"{name}: {label}"] = of_runs
    return facts


def machines_of(study: Study) -> Facts:
    """Collect where and when every run's pre-training was executed."""
    return _written([read_run_metadata(run, PRETRAIN) for run in runs_in_order(study)], MACHINE)


def _written(records: list[dict[str, Any]], shown: Mapping[str, tuple[str, Callable[[Any], str]]]) -> Facts:
    """Write facts of each run's record; a dash for what it lacks."""
    return {
        label: [UNKNOWN if record.get(key) is None else text(record[key]) for record in records]
        for label, (key, text) in shown.items()
    }


def times(study: Study) -> list[dict[str, Any]]:
    """Add up seconds by run and stage: {run, stages: [(stage, seconds)], total}; stages without a record are left out.

    The seconds of an evaluation include those of its parts, as far as they were recorded.
    """
    rows = []
    for run in runs_in_order(study):
        stages = []
        for stage in (PRETRAIN, *study.evaluations_of(run)):
            metadata = read_stage_metadata(study, run, stage).values()
            seconds = [float(one["seconds"]) for one in metadata if "seconds" in one]
            stages += [(stage, sum(seconds))] if seconds else []
        rows.append({"run": run, "stages": stages, "total": sum(seconds for _, seconds in stages)})
    return rows


def warnings(study: Study) -> list[tuple[str, str]]:
    """List (run, warning) of all pre-trainings."""
    return [
        (run, text) for run in runs_in_order(study) for text in read_result(study, run, PRETRAIN).get("warnings", [])
    ]


def with_drawn_prototypes(study: Study) -> list[str]:
    """List the trained runs whose projection head's last layer was frozen to the end."""
    trained = [run for run in runs_in_order(study) if study.imported(run) is None]
    settings = {run: study.run(run) for run in trained}
    return [run for run, s in settings.items() if 0 < s.epochs <= s.optimizer.freeze_last_layer]


def protocols(study: Study) -> list[dict[str, Any]]:
    """Describe every evaluation: name, kind, definition, parameters, images, and the spread within single runs."""
    described = []
    for name, protocol in study.evaluate.items():
        results = {run: read_result(study, run, name) for run in runs_in_order(study) if (run, name) in study.pairs}
        described.append(
            {
                "name": name,
                "kind": protocol.kind,
                "about": " ".join((type(protocol).__doc__ or "").split()),
                "parameters": {key: value for key, value in protocol.flattened().items() if key != "kind"},
                "splits": next(iter(results.values()), {}).get("dataset", {}).get("splits", {}),
                "spread": _spread(protocol, results),
            }
        )
    return described


def duration(seconds: float) -> str:
    """Write seconds for a reader: 48 s, 13 min 20 s, 5 h 02 min."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _spread(protocol: Protocol, results: Mapping[str, Mapping[str, Any]]) -> str:
    """Standard deviation within each run, which is not the one over pre-training seeds that tables show."""
    sentences = []
    for key in (name for name in protocol.values() if name.endswith("_sd")):
        found = [f"{run} {result['values'][key]:.2f}" for run, result in results.items() if key in result["values"]]
        if found:
            sentences.append(f"Standard deviation of {key[:-3]} over {protocol.spread_over}: {', '.join(found)}.")
    return " ".join(sentences)


def text_of(value: Any) -> str:
    """Write a value of a setting or a record for a reader."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    if isinstance(value, list | tuple):
        return ", ".join(text_of(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def short(value: str | None) -> str:
    """Shorten a hash to its first digits; a "-dirty" at the end of a revision is kept."""
    if not value:
        return UNKNOWN
    digits, dash, rest = value.removeprefix("sha256:").partition("-")
    return digits[:12] + dash + rest


def _trained_on(dataset: Mapping[str, Any]) -> str:
    return f"{dataset.get('name')}/{dataset.get('split')}, {dataset.get('images', 0):,} images"


IDENTITY: dict[str, tuple[str, Callable[[Any], str]]] = {
    "identity": ("identity", text_of),
    "data set": ("dataset", _trained_on),
    "data set digest": ("dataset", lambda dataset: short(dataset.get("digest"))),
    "weights SHA-256": ("weights", lambda weights: short(weights.get("sha256"))),
    "stage version": ("stage_version", text_of),
    "torch threads": ("torch_threads", text_of),
}
"""Facts of a pre-training: label, its key in the result, and how its value is written."""
MACHINE: dict[str, tuple[str, Callable[[Any], str]]] = {
    "device": ("device", text_of),
    "precision": ("precision", text_of),
    "loader workers": ("workers", text_of),
    "time": ("seconds", duration),
    "images per second": ("images_per_second", "{:.0f}".format),
    "waiting for data": ("data_wait_share", lambda share: f"{100 * share:.1f} % of the time"),
    "finished": ("finished", lambda time: time.replace("T", " ").replace("+00:00", " UTC")),
    "host": ("host", text_of),
    "CPUs": ("cpus", text_of),
    "machine": ("machine", text_of),
    "Python": ("python", text_of),
    "PyTorch": ("torch", text_of),
    "scfs": ("scfs", text_of),
    "git revision": ("git", short),
    "lock SHA-256": ("lock_sha256", short),
    "image digest": ("image_digest", short),
}
"""Facts of an execution, likewise."""
