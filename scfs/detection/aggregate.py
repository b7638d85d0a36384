"""Mean and standard deviation over the trials of one detector."""

from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from scfs.config.base import first_difference
from scfs.config.detection import VALUES, Detection
from scfs.errors import ScfsError
from scfs.io.atomic import write_with
from scfs.io.results import nested_difference, read_result, write_result

SHARED = ("run", "evaluation", "protocol", "dataset", "weights", "stage_version", "torch_threads", "resolved")
"""Keys of the result that all trials have in common, and their mean with them."""


def aggregate(protocol: Detection, evaluation: str, run: str, parts: list[Path], out: Path) -> None:
    """Write the trials' mean and, if there are several, sample standard deviation, with the first trial's arrays.

    Args:
        protocol: of the evaluation.
        evaluation: its name in the study.
        run: name of the run.
        parts: the trials' results, in the order of the protocol's parts.
        out: path of the result; repeating it gives the same bytes.

    Raises:
        ScfsError: a trial is missing, damaged or another one than its place says, or differs from the protocol or from
            the first in what was measured: run, protocol, data, weights, threads or code version.
    """
    results = [_read(path) for path in parts]
    if len(results) != len(protocol.parts):
        raise ScfsError(f"{out}: {len(results)} trials of evaluation {evaluation}, {len(protocol.parts)} were expected")
    for path, result, part in zip(parts, results, protocol.parts, strict=True):
        shared = {key: results[0][key] for key in SHARED}
        _check(path, result, protocol, {**shared, "run": run, "part": part})
    values = {name: [result["values"][name] for result in results] for name in VALUES[protocol.benchmark]}
    means = {name: fmean(of_trials) for name, of_trials in values.items()}
    if len(results) > 1:
        means |= {f"{name}_sd": stdev(of_trials) for name, of_trials in values.items()}
    record = {
        **{key: results[0][key] for key in SHARED},
        "values": means,
        "trials": [{key: result[key] for key in ("part", "seed", "values")} for result in results],
        "per_class": _mean_per_class([result["per_class"] for result in results]),
    }
    arrays = parts[0].with_suffix(".npz")
    if not arrays.is_file():
        raise ScfsError(f"{arrays}: missing: the stage detect of run {run} writes it")
    content = arrays.read_bytes()
    write_with(out.with_suffix(".npz"), lambda file: file.write(content))
    write_result(out, record)


def _read(path: Path) -> dict[str, Any]:
    result = read_result(path, "the stage detect")
    if not result.keys() >= {*SHARED, "part", "seed", "values", "per_class"}:
        raise ScfsError(f"{path}: not the result of a trial of the stage detect")
    return result


def _check(path: Path, result: dict[str, Any], protocol: Detection, wanted: dict[str, Any]) -> None:
    """Hold a trial to the protocol, and to the values that it must share with the first trial."""
    changed = first_difference(result["protocol"], protocol, f"{path}: protocol")
    different = [(f"protocol.{changed[0]}", *changed[1:])] if changed else []
    different += [nested_difference(key, result[key], value) for key, value in wanted.items() if result[key] != value]
    for key, used, value in different[:1]:
        raise ScfsError(
            f"{path}: measured with {key} = {used!r}, but {value!r} is wanted: run the stage detect of this trial again"
        )


def _mean_per_class(of_trials: list[dict[str, dict[str, float | None]]]) -> dict[str, dict[str, float | None]]:
    """Average each class's numbers; None where the test split has no object of the class, as in every trial."""

    def mean(values: list[float | None]) -> float | None:
        numbers = [value for value in values if value is not None]
        return fmean(numbers) if numbers else None

    return {
        name: {key: mean([trial[name][key] for trial in of_trials]) for key in numbers}
        for name, numbers in of_trials[0].items()
    }
