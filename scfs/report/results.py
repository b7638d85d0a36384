"""Load results that other stages wrote, and check that they are of the study's own settings."""

from pathlib import Path
from typing import Any

from scfs import paths
from scfs.config.base import Config, first_difference
from scfs.config.identity import STAGE_VERSIONS
from scfs.config.study import Study
from scfs.errors import ScfsError
from scfs.io import results

PRETRAIN = "pretrain"


def read_result(study: Study, run: str, evaluation: str) -> dict[str, Any]:
    """Read the result of one evaluation of a run, or of its pre-training (`evaluation` = "pretrain").

    Raises:
        ScfsError: the file is missing (the line says which stage writes it), is damaged, was trained with other
            settings or measured by another protocol than the study's, or was measured on other weights than the
            run's present ones.
    """
    path = paths.result(run, evaluation)
    protocol = None if evaluation == PRETRAIN else study.evaluate[evaluation]
    stage = PRETRAIN if protocol is None else protocol.kind
    again = f"run the stage {stage} of this run again"
    result = results.read_result(path, f"the stage {stage} of run {run}")
    if protocol is None:
        _check(path, result, "settings", study.settings(run), f"the study's run {run}", again)
        _check_version(path, result, PRETRAIN, again)
    else:
        _check(path, result, "protocol", protocol, f"the study's evaluate.{evaluation}", again)
        _check_version(path, result, protocol.stage, again)
        _check_weights(path, result, read_result(study, run, PRETRAIN), again)
    return result


def _check(path: Path, result: dict[str, Any], section: str, wanted: Config, source: str, again: str) -> None:
    """Runs are shared by studies: what was made with other settings must not slip into this study's table."""
    try:
        different = first_difference(result.get(section), wanted, f"{path}: {section}")
    except ScfsError as error:
        raise ScfsError(f"{error}: not the {section} of {source}: {again}") from None
    if different:
        key, used, now = different
        raise ScfsError(f"{path}: made with {key} = {used!r}, but {source} has {now!r}: {again}")


def _check_version(path: Path, result: dict[str, Any], stage: str, again: str) -> None:
    """A stage whose version was raised gives other results than this one, even from the same settings."""
    wanted = STAGE_VERSIONS[stage]
    used = result.get("stage_version", wanted)
    if used != wanted:
        raise ScfsError(f"{path}: made by version {used} of the stage {stage}, whose version is {wanted} now: {again}")


def _check_weights(path: Path, result: dict[str, Any], trained: dict[str, Any], again: str) -> None:
    """A run that was trained again leaves the results of its earlier weights behind."""
    used, wanted = (record.get("weights", {}).get("sha256") for record in (result, trained))
    if used != wanted:
        weights = paths.weights(path.parent.name)
        if weights.is_file() and results.sha256_of(weights) != wanted:
            again = f"{weights} is damaged or another file: make the weights again (the stage {PRETRAIN}), then {again}"
        raise ScfsError(
            f"{path}: measured on weights with SHA-256 {used}, but pretrain.json beside it has {wanted}: {again}"
        )


def read_value(study: Study, run: str, evaluation: str, value: str) -> float:
    """Read a measured value.

    Raises:
        ScfsError: as read_result, or the result holds no such value.
    """
    values = read_result(study, run, evaluation)["values"]
    if value not in values:
        raise ScfsError(f"{paths.result(run, evaluation)}: value {value!r}: not among {sorted(values)}")
    return float(values[value])


def read_training(study: Study, run: str, evaluation: str) -> dict[str, Any]:
    """Read the record of an evaluation's training (`Protocol.training_record`); {} for a kind that trains no encoder.

    Raises:
        ScfsError: as read_result, or there is no such record, or it lacks a fact that the report shows.
    """
    protocol = study.evaluate[evaluation]
    if not (key := protocol.training_record):
        return {}
    record = read_result(study, run, evaluation).get(key)
    if not isinstance(record, dict) or not record.keys() >= set(protocol.training_facts.values()):
        path = paths.result(run, evaluation)
        raise ScfsError(f"{path}: {key} = {record!r}: run the stage {protocol.kind} of this run again")
    return record


def read_stage_metadata(study: Study, run: str, evaluation: str) -> dict[str, dict[str, Any]]:
    """Read the executions that a stage is made of: its own, and those of an evaluation's parts, if they were kept.

    Returns:
        The answer of `read_run_metadata`, by `evaluation` and by `evaluation/part`.
    """
    parts = () if evaluation == PRETRAIN else study.evaluate[evaluation].parts
    of_parts = {name: read_run_metadata(run, name) for name in (f"{evaluation}/{part}" for part in parts)}
    return {evaluation: read_run_metadata(run, evaluation), **{name: one for name, one in of_parts.items() if one}}


def read_run_metadata(run: str, evaluation: str) -> dict[str, Any]:
    """Read when, where and how long a stage ran (`.run.json`); empty where that was not kept."""
    path = paths.result(run, evaluation).with_suffix(".run.json")
    return results.read_result(path, f"run {run}") if path.is_file() else {}
