"""Probes change no bit of a training or of its resume, keep usable weights, and a full disk under them ends nothing."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scfs.config.data import ImageFolders
from scfs.config.pretrain import Pretrain
from scfs.data.sources.folders import image_folder
from scfs.errors import ScfsError
from scfs.evaluation.during_training import LabelledProbe, prepare_probe
from scfs.training.pretrain import pretrain_folder
from scfs.weights.store import load_backbone

TAKEN = ImageFolders(source="folder", splits={"all": ""})
KINDS = ("dark", "light")


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes that any network tells apart."""
    folder, random = tmp_path_factory.mktemp("classes"), np.random.default_rng(0)
    for number, name in enumerate(KINDS):
        (folder / name).mkdir()
        for index in range(80):
            pixels = random.integers(160 * number, 160 * number + 96, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index:03d}.png")
    return folder


@pytest.fixture(scope="module")
def short(tiny: Pretrain) -> Pretrain:
    """Eight steps."""
    return Pretrain.model_validate(
        tiny.model_dump()
        | {"epochs": 2, "batch": 40, "method": "dino", "views": {"global_size": 32, "local_number": 0}}
    )


def train(settings: Pretrain, images: Path, out: Path, **options: object) -> None:
    prepare = partial(prepare_probe, **options.pop("probe", {}))  # type: ignore[call-overload]
    pretrain_folder("tiny", settings, images, TAKEN, prepare, weights=out / "w.safetensors", result=out / "r.json",
                    folder=out / "run", device="cpu", save_every=0, **options)  # fmt: skip


def scalars(out: Path, name: str) -> list[str]:
    return [line.split()[-2:] for line in (out / "run/dvclive/plots/metrics" / f"{name}.tsv").open()][1:]


@pytest.fixture(scope="module")
def probed(short: Pretrain, classes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("probed")
    train(short, classes, out, probe_every=3, keep=2)
    return out


def test_weights_and_record_are_those_without_probes(
    short: Pretrain, classes: Path, probed: Path, tmp_path: Path
) -> None:
    train(short, classes, tmp_path, probe_every=0)
    for name in ("w.safetensors", "r.json"):
        assert (tmp_path / name).read_bytes() == (probed / name).read_bytes(), name
    assert not (tmp_path / "probes").exists()


def test_probes_of_the_start_weights_at_intervals_and_at_the_end(probed: Path) -> None:
    assert len(scalars(probed, "probe_knn")) == len(scalars(probed, "probe_linear")) == 4  # at steps 0, 3, 6 and 8
    kept = sorted(path.name for path in (probed / "probes").iterdir())
    assert kept == ["best.safetensors", "step-000000006.safetensors", "step-000000008.safetensors"]
    ended, last = (
        load_backbone(path)[0].state_dict() for path in (probed / "w.safetensors", probed / "probes" / kept[-1])
    )
    assert all(torch.equal(value, last[name]) for name, value in ended.items())


def test_resumed_between_two_probes(
    short: Pretrain, classes: Path, probed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scfs.training.loop import Pretraining

    step, done = Pretraining.train_step, []

    def failing(self: Pretraining, batch: object) -> dict:
        if len(done) == 5:
            raise ScfsError("stopped")
        done.append(self.step)
        return step(self, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(Pretraining, "train_step", failing)
    with pytest.raises(ScfsError, match="stopped"):
        train(short, classes, tmp_path, probe_every=3, keep=2)
    monkeypatch.undo()
    train(short, classes, tmp_path, probe_every=3, keep=2)
    for name in ("w.safetensors", "r.json", "probes/best.safetensors", "probes/step-000000006.safetensors"):
        assert (tmp_path / name).read_bytes() == (probed / name).read_bytes(), name
    for name in ("probe_knn", "probe_linear"):
        assert scalars(tmp_path, name) == scalars(probed, name)


def test_a_full_disk_under_the_weights_is_one_line_and_the_training_goes_on(
    short: Pretrain, classes: Path, probed: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "probes").write_text("a file where the folder is to be")
    train(short, classes, tmp_path, probe_every=8)
    said = [line for line in capfd.readouterr().err.splitlines() if "warning" in line]
    assert len(said) == 1 and said[0].startswith("warning: weights of the probe at step 8: ")
    assert (tmp_path / "w.safetensors").read_bytes() == (probed / "w.safetensors").read_bytes()


def test_the_numbers_are_right_where_classes_are_told_apart(short: Pretrain, classes: Path) -> None:
    from scfs.model.methods import build_method

    images, probe = prepare_probe(image_folder(classes), TAKEN, 32)
    assert probe is not None and probe.mark == ", in-sample" and len(images) == 160
    before = torch.get_rng_state()
    backbone = build_method(short).teacher.backbone
    assert probe(backbone, torch.device("cpu"), 0) == {"knn": 100.0, "linear": 100.0}
    assert torch.equal(torch.get_rng_state(), before) and backbone.training


def test_what_is_held_out_follows_from_the_paths(classes: Path) -> None:
    images = image_folder(classes)
    left, probe = prepare_probe(images, TAKEN, 32, holdout=True)
    assert probe is not None and probe.mark == "" and len(probe.train) == len(left)
    assert not set(left.paths) & set(probe.test.paths) and len(left) + len(probe.test) == len(images)
    assert left.digest != images.digest  # another identity
    _, again = prepare_probe(images.subset(np.arange(len(images))[::-1].copy()), TAKEN, 32)
    assert again is not None and sorted(again.test.paths) == sorted(probe.test.paths)
    assert {path: 8 <= len(probe.test) <= 24 for path in probe.test.paths}


def test_images_of_the_probe_that_are_trained_on_are_said(
    classes: Path, noise_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    probe: LabelledProbe | None
    _, probe = prepare_probe(image_folder(noise_folder), TAKEN, 32, folder=classes)
    assert probe is not None and probe.mark == "" and "in-sample" not in capfd.readouterr().err
    _, probe = prepare_probe(image_folder(classes), TAKEN, 32, folder=classes)
    assert probe is not None and probe.mark == ", in-sample"
    assert (
        f"{len(probe.test)} of the {len(probe.test)} images that are classified are trained on"
        in capfd.readouterr().err
    )


def test_a_folder_that_cannot_be_probed(classes: Path, noise_folder: Path, tmp_path: Path) -> None:
    images = image_folder(noise_folder)
    assert prepare_probe(images, TAKEN, 32) == (images, None)  # no labels, and none asked for
    (tmp_path / "dark").symlink_to(classes / "dark")
    for folder, found in ((noise_folder, "0 classes and 24 images"), (tmp_path, "1 classes and 80 images")):
        with pytest.raises(
            ScfsError, match=f"a probe of .*{folder.name}, which has {found}: allowed: class sub-folders, two"
        ):
            prepare_probe(images, TAKEN, 32, folder=folder)
    with pytest.raises(ScfsError, match="0 classes and 24 images"):
        prepare_probe(images, TAKEN, 32, holdout=True)
