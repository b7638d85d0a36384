"""An identity moves with everything that a result depends on, and with nothing else."""

from typing import Any

import pytest

from scfs.config import identity
from scfs.config.study import Study, parse_study

SCENES = {
    "source": "garment-scenes",
    "splits": {"pretrain": {"scenes": 4}, "train": {"scenes": 4}, "val": {"scenes": 4}},
}


def study(**changes: Any) -> Study:
    values: dict[str, Any] = {
        "study": "small",
        "data": {"scenes": SCENES},
        "pretrain": {"dataset": "scenes", "optimizer": {"lr": 0.1, "momentum": 0.9}},
        "runs": {"one": {"seed": 3}},
        "evaluate": {"knn": {"kind": "knn", "dataset": "scenes"}},
    }
    return parse_study(values | changes)


def pretrain(**changes: Any) -> str:
    return identity.pretrain_identity(study(**changes), "one")


def test_key_order_written_defaults_and_where_a_key_stands_do_not_matter() -> None:
    reordered = {"optimizer": {"momentum": 0.9, "lr": 0.1}, "dataset": "scenes"}
    assert pretrain(pretrain=reordered) == pretrain()
    assert pretrain(pretrain={"dataset": "scenes"}) == pretrain()  # both values are the defaults
    assert pretrain(pretrain={"dataset": "scenes"}, runs={"one": {"seed": 3, "optimizer": {"lr": 0.1}}}) == pretrain()


def test_other_runs_names_and_labels_do_not_matter() -> None:
    assert pretrain(runs={"one": {"seed": 3}, "two": {}}, scale="small", study="other") == pretrain()


@pytest.mark.parametrize(
    "changes",
    [
        {"runs": {"one": {"seed": 4}}},
        {"torch_threads": 2},
        {"pretrain": {"dataset": "scenes", "optimizer": {"lr": 0.9, "momentum": 0.1}}},  # values swapped
    ],
)
def test_what_the_weights_depend_on_matters(changes: dict[str, Any]) -> None:
    assert pretrain(**changes) != pretrain()


def test_the_version_of_the_code_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    before = pretrain()
    monkeypatch.setitem(identity.STAGE_VERSIONS, "pretrain", identity.STAGE_VERSIONS["pretrain"] + 1)
    assert pretrain() != before


def test_data_and_protocols_have_identities_of_their_own() -> None:
    other_data = {"data": {"scenes": SCENES | {"seed": 1}}}
    assert identity.prepare_identity(study(**other_data), "scenes") != identity.prepare_identity(study(), "scenes")
    assert pretrain(**other_data) == pretrain()  # the manifest is an input of pretrain: its hash tells
    other_k = {"evaluate": {"knn": {"kind": "knn", "dataset": "scenes", "temperature": 0.1}}}
    assert identity.evaluate_identity(study(**other_k), "knn") != identity.evaluate_identity(study(), "knn")
