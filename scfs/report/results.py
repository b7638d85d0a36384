"""Load results that other stages wrote, and check that they are of the study's own settings."""

import json
from pathlib import Path
from typing import Any

from scfs import paths
from scfs.config.base import first_difference
from scfs.config.identity import STAGE_VERSIONS
from scfs.config.report import Column
from scfs.config.study import Study
from scfs.errors import ScfsError

PRETRAIN = "pretrain"


def read_result(study: Study, run: str, evaluation: str) -> dict[str, Any]:
    """Read the result of one evaluation of a run, or of its pre-training (`evaluation` = "pretrain").

    Raises:
        ScfsError: the file is missing (the line says which stage writes it), is damaged, was trained with other
            settings or measured by another protocol than the study's, or was measured on other weights than the
            run's present ones.
    """
    path = paths.result(run, evaluation)
    stage = PRETRAIN if evaluation == PRETRAIN else study.evaluate[evaluation].kind
    if not path.is_file():
        raise ScfsError(f"{path}: missing: the stage {stage} of run {run} writes it")
    result = _load(path)
    if evaluation == PRETRAIN:
        _check_settings(study, path, run, result)
    else:
        _check_protocol(study, path, evaluation, result)
        _check_weights(path, stage, result, read_result(study, run, PRETRAIN))
    return result


def read_value(study: Study, run: str, column: Column) -> float:
    """Read the measured value that a table's column asks for.

    Raises:
        ScfsError: as read_result, or the result holds no such value.
    """
    values = read_result(study, run, column.evaluation)["values"]
    if column.value not in values:
        path = paths.result(run, column.evaluation)
        raise ScfsError(f"{path}: value {column.value!r}: not among {sorted(values)}")
    return float(values[column.value])


def read_training(study: Study, run: str, evaluation: str) -> dict[str, Any]:
    """Read the record of an evaluation's training (`Protocol.training_record`); {} for a kind that trains no encoder.

    Raises:
        ScfsError: as read_result, or there is no such record.
    """
    protocol = study.evaluate[evaluation]
    if not (key := protocol.training_record):
        return {}
    record = read_result(study, run, evaluation).get(key)
    if not isinstance(record, dict):
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
    return _load(path) if path.is_file() else {}


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ScfsError(f"{path}: not a readable JSON file: {error}") from None
    if not isinstance(content, dict):
        raise ScfsError(f"{path}: not a result: a JSON object is expected")
    return content


def _check_settings(study: Study, path: Path, run: str, result: dict[str, Any]) -> None:
    """Another study, or this one before a change, may have trained a run of the same name with other settings."""
    again = f"run the stage {PRETRAIN} of this run again"
    try:
        different = first_difference(result.get("settings"), study.settings(run), f"{path}: settings")
    except ScfsError as error:
        raise ScfsError(f"{error}: not settings of the study's run {run}: {again}") from None
    if different:
        key, used, wanted = different
        raise ScfsError(f"{path}: trained with {key} = {used!r}, but the study's run {run} has {wanted!r}: {again}")
    _check_version(path, "pretrain", result, again)


def _check_protocol(study: Study, path: Path, evaluation: str, result: dict[str, Any]) -> None:
    """Runs are shared by studies: a number measured differently must not slip into this study's table."""
    protocol = study.evaluate[evaluation]
    again = f"run the stage {protocol.kind} of this run again"
    try:
        different = first_difference(result.get("protocol"), protocol, f"{path}: protocol")
    except ScfsError as error:
        raise ScfsError(f"{error}: not the study's evaluate.{evaluation}: {again}") from None
    if different:
        key, used, wanted = different
        raise ScfsError(
            f"{path}: measured with {key} = {used!r}, "
            f"but the study's evaluate.{evaluation}.{key} is {wanted!r}: {again}"
        )
    _check_version(path, protocol.stage, result, again)


def _check_version(path: Path, stage: str, result: dict[str, Any], again: str) -> None:
    """A stage whose version was raised gives other results than this one, even from the same settings."""
    wanted = STAGE_VERSIONS[stage]
    used = result.get("stage_version", wanted)
    if used != wanted:
        raise ScfsError(f"{path}: made by version {used} of the stage {stage}, whose version is {wanted} now: {again}")


def _check_weights(path: Path, stage: str, result: dict[str, Any], trained: dict[str, Any]) -> None:
    """A run that was trained again leaves the results of its earlier weights behind."""
    used, wanted = (record.get("weights", {}).get("sha256") for record in (result, trained))
    if used != wanted:
        raise ScfsError(
            f"{path}: measured on weights with SHA-256 {used}, but pretrain.json beside it has {wanted}: "
            f"run the stage {stage} of this run again"
        )
