"""Pre-training whose crops are augmented where it computes."""

import json
from pathlib import Path

import pytest

from scfs.config.identity import identity
from scfs.config.pretrain import Pretrain
from scfs.data.sources.folders import image_folder
from scfs.errors import ScfsError
from scfs.training.pretrain import pretrain


def record_of(settings: Pretrain, images: Path, out: Path, colour: str) -> dict:
    pretrain("tiny", settings, image_folder(images), weights=out / "w.safetensors", result=out / "r.json",
             folder=out / "run", device="cpu", colour=colour, save_every=0)  # fmt: skip
    assert json.loads((out / "r.run.json").read_text())["colour"] == ("cpu" if colour == "auto" else colour)
    return json.loads((out / "r.json").read_text())


@pytest.mark.parametrize("accumulate", [1, 2])
def test_it_trains_nearly_the_same_and_is_another_run(accumulate, tiny, noise_folder, tmp_path) -> None:
    settings = Pretrain.model_validate(tiny.model_dump() | {"accumulate": accumulate, "epochs": 2})
    on_cpu, on_device = (record_of(settings, noise_folder, tmp_path / where, where) for where in ("cpu", "device"))
    assert on_cpu["identity"] != on_device["identity"]
    assert on_cpu["curve"]["loss"] != on_device["curve"]["loss"]
    # At this rate what differs in the first epoch is another training by the last.
    assert on_cpu["curve"]["loss"][0] == pytest.approx(on_device["curve"]["loss"][0], rel=0.02)
    again = record_of(settings, noise_folder, tmp_path / "again", "device")
    assert again == on_device


def test_the_cpus_identity_is_what_it_was(tiny, noise_folder, tmp_path) -> None:
    """From before there was a choice."""
    record = record_of(tiny, noise_folder, tmp_path, "auto")
    before = {"settings": tiny, "torch_threads": 1, "precision": record["precision"], "device": "cpu"}
    assert record["identity"] == identity("pretrain", before, {"dataset": record["dataset"]["digest"]})


def test_random_weights_have_one_identity(tiny, noise_folder, tmp_path) -> None:
    settings = Pretrain.model_validate(tiny.model_dump() | {"epochs": 0, "optimizer": {"warmup_epochs": 0}})
    records = [record_of(settings, noise_folder, tmp_path / where, where) for where in ("cpu", "device")]
    assert records[0] == records[1]


def test_an_unknown_place(tiny, noise_folder, tmp_path) -> None:
    with pytest.raises(ScfsError, match="--colour gpu: not among auto, cpu, device"):
        record_of(tiny, noise_folder, tmp_path, "gpu")
