"""Identity of a stage: a hash of everything that its result depends on, and of nothing else.

Canonical parameters have their defaults filled in and do not depend on key order. The code enters as one integer per
expensive stage: a refactoring keeps it, a change of behaviour raises it (tests/test_fingerprint.py holds it to that).
"""

import hashlib
import json
from typing import Any

from scfs.config.base import Config
from scfs.config.study import Study

STAGE_VERSIONS = {
    "prepare": 1,
    "inspect": 1,
    "pretrain": 1,
    "convert": 1,
    "evaluate": 1,
    "finetune": 1,
    "detect": 1,
    "report": 1,
}
"""Raise a stage's integer when the same parameters and inputs give another result."""


def canonical(value: Any) -> str:
    """JSON with sorted keys and without spaces; configuration classes are written out with their defaults."""
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Config):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def identity(stage: str, parameters: Any, inputs: Any = None) -> str:
    """Sixteen hexadecimal digits for a stage with these parameters and input hashes."""
    text = canonical({"stage": stage, "version": STAGE_VERSIONS[stage], "parameters": parameters, "inputs": inputs})
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def prepare_identity(study: Study, dataset: str) -> str:
    """Identity of `prepare` for one data set."""
    return identity("prepare", study.data[dataset])


def pretrain_identity(study: Study, run: str) -> str:
    """Identity of `pretrain` for one run, before its data are known; the run folder adds their hash."""
    return identity("pretrain", {"settings": study.settings(run), "torch_threads": study.torch_threads})


def evaluate_identity(study: Study, evaluation: str) -> str:
    """Identity of one evaluation's protocol; which run it is applied to comes from the run's own identity."""
    return identity("evaluate", {"protocol": study.evaluate[evaluation], "torch_threads": study.torch_threads})


def report_identity(study: Study) -> str:
    """Identity of the study's tables, figures and report: all of the study, since any part of it may be shown."""
    return identity("report", study)
