"""The names of values that a protocol declares, which tables are checked against, are those that are measured."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from scfs.config.protocol import Evaluation
from scfs.evaluation.features import FrozenEncoder
from scfs.evaluation.run import EVALUATE

SMALL: dict[str, Any] = {"dataset": "colours", "resize": 36, "crop": 32}
PROTOCOLS: list[dict[str, Any]] = [
    {**SMALL, "kind": "knn", "k": [3, 5], "report_k": 5},
    {**SMALL, "kind": "layers", "k": [3], "report_k": 3, "layers": ["layer1", "layer4"]},
    {**SMALL, "kind": "linear_cached", "epochs": 1},
    {**SMALL, "kind": "linear_cached", "epochs": 1, "seeds": [4]},
    {**SMALL, "kind": "linear", "epochs": 1},
    {**SMALL, "kind": "linear", "epochs": 1, "seeds": [4]},
    {**SMALL, "kind": "attention", "dataset": "scenes", "local_crop": 32, "figure_images": 1},
    {**SMALL, "kind": "object_search", "dataset": "scenes", "local_size": 32, "local_scale": [0.02, 0.2], "crops": 12},
    {**SMALL, "kind": "class_probabilities", "local_size": 32, "crops": 2, "figure_images": 1},
]


def test_every_kind_is_tried_here() -> None:
    assert {protocol["kind"] for protocol in PROTOCOLS} == set(EVALUATE)


@pytest.mark.parametrize("values", PROTOCOLS, ids=lambda values: f"{values['kind']}-{len(values)}")
def test_declared_is_measured(values: dict[str, Any], workplace: Path, encoder: FrozenEncoder) -> None:
    protocol: Any = TypeAdapter(Evaluation).validate_python(values)
    measured = EVALUATE[protocol.kind](protocol, encoder).values
    assert sorted(protocol.values()) == sorted(measured)
