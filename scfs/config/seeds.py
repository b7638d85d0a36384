"""Runs for each seed of a study: one entry of the file becomes several runs, wherever it is named."""

from collections.abc import Mapping
from typing import Any


def with_seeds(values: Any) -> tuple[Any, dict[str, list[str]]]:
    """A run for each seed of `seeds`, wherever a run stands; the runs made of each one.

    What is not as the schema wants it is left for the schema to say.
    """
    seeds, runs = (values.get(key) for key in ("seeds", "runs")) if isinstance(values, dict) else (None, None)
    if not (isinstance(seeds, list | tuple) and isinstance(runs, dict)):
        return values, {}
    made: dict[str, list[str]] = {}
    expanded: dict[str, Any] = {}
    for name, settings in runs.items():
        if isinstance(settings, dict) and not {"seed", "weights"} & settings.keys():
            made[name] = [f"{name}-s{seed}" for seed in seeds]
            expanded |= {run: {**settings, "seed": seed} for run, seed in zip(made[name], seeds, strict=True)}
        else:
            expanded[name] = settings
    shown = {key: _each_seed(values[key], made) for key in ("tables", "figures") if key in values}
    return {**values, "runs": expanded, **shown}, made


def _each_seed(value: Any, made: Mapping[str, list[str]]) -> Any:
    """A table or figure, in which each run of `runs` stands for those made of it."""
    if isinstance(value, list):
        return [_each_seed(item, made) for item in value]
    if not isinstance(value, dict):
        return value
    changed = {key: _each_seed(item, made) for key, item in value.items()}
    if isinstance(value.get("runs"), list):
        changed["runs"] = [run for name in value["runs"] for run in made.get(name, [name])]
    return changed
