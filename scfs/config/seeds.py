"""Runs for each seed of a study: one entry of the file becomes several runs, wherever it is named."""

from collections.abc import Mapping
from typing import Any

from scfs.errors import ScfsError


def with_seeds(values: Any, source: str) -> tuple[Any, dict[str, list[str]]]:
    """Replace each run by one for each seed of `seeds`, wherever it stands; return the values and the new names.

    Values that break the schema are left as they are, as the schema reports them.

    Raises:
        ScfsError: a seed stands twice, or a run has the name of another one's seed.
    """
    seeds, runs = (values.get(key) for key in ("seeds", "runs")) if isinstance(values, dict) else (None, None)
    if not (seeds and isinstance(seeds, list | tuple) and isinstance(runs, dict)):
        return values, {}
    if len(set(map(str, seeds))) != len(seeds):
        raise ScfsError(f"{source}: seeds = {seeds!r}: each seed only once")
    made: dict[str, list[str]] = {}
    expanded: dict[str, Any] = {}
    for name, settings in runs.items():
        if isinstance(settings, dict) and not {"seed", "weights"} & settings.keys():
            made[name] = [f"{name}-s{seed}" for seed in seeds]
            for taken in set(made[name]) & runs.keys():
                raise ScfsError(f"{source}: runs.{taken}: the name of a seed of runs.{name}")
            expanded |= {run: {**settings, "seed": seed} for run, seed in zip(made[name], seeds, strict=True)}
        else:
            expanded[name] = settings
    shown = {key: _each_seed(values[key], made) for key in ("tables", "figures") if key in values}
    return {**values, "runs": expanded, **shown}, made


def _each_seed(value: Any, made: Mapping[str, list[str]]) -> Any:
    """Return a table or figure in which the names of runs are replaced by those of their seeds."""
    if isinstance(value, list):
        return [_each_seed(item, made) for item in value]
    if not isinstance(value, dict):
        return value
    changed = {key: _each_seed(item, made) for key, item in value.items()}
    if isinstance(value.get("runs"), list):
        changed["runs"] = [
            run for name in value["runs"] for run in (made.get(name) if isinstance(name, str) else None) or [name]
        ]
    return changed
