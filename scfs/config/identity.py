"""The identity of a stage: a hash of everything that its result depends on, and of nothing else.

Run folders, checkpoints and results carry it. It is made of settings with their defaults filled in, so that it does not
depend on how a study is written; `scfs.pipeline.jobs.parameters_hash` is of what is written. The code enters as one
integer per stage: a refactoring keeps it, a change of behaviour raises it (tests/test_fingerprint.py holds it to that).
A new default raises it too (tests/config/test_defaults.py).
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
"""Version of each stage's code: raise it when the same parameters and inputs give another result."""

VERSION_OF = {
    "import_weights": "pretrain",
    "tune": "finetune",
    "average": "detect",
    "table": "report",
    "figure": "report",
}
"""Entry of STAGE_VERSIONS of the stages that share one."""


def canonical(value: Any) -> str:
    """Return JSON with sorted keys and without spaces; configurations as `Config.model_dump` gives them."""
    return json.dumps(value, default=_plain, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Config):
        return value.model_dump(mode="json")
    raise TypeError(f"no place in an identity for a {type(value).__name__}")


def identity(stage: str, parameters: Any, inputs: Any = None) -> str:
    """Return sixteen hexadecimal digits for a stage with these parameters and input hashes."""
    text = canonical({"stage": stage, "version": STAGE_VERSIONS[stage], "parameters": parameters, "inputs": inputs})
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def prepare_identity(study: Study, dataset: str) -> str:
    """Return the identity of `prepare` for one data set."""
    return identity("prepare", study.data[dataset])


def pretrain_identity(study: Study, run: str) -> str:
    """Return the identity of one run's settings, before its data are known; the run folder's adds their hash."""
    return identity("pretrain", {"settings": study.settings(run), "torch_threads": study.torch_threads})


def evaluate_identity(study: Study, evaluation: str) -> str:
    """Return the identity of one evaluation's protocol; which run it is applied to comes from the run's identity."""
    return identity("evaluate", {"protocol": study.evaluate[evaluation], "torch_threads": study.torch_threads})
