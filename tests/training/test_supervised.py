"""The method supervised: learns what can be learnt, resumes exactly, exports its classifier."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from test_resume import assert_same_outcome, cut_short, train

from scfs.config.pretrain import Pretrain
from scfs.data.sources.folders import image_folder
from scfs.errors import ScfsError
from scfs.model.methods.supervised import Supervised
from scfs.training.loop import Labels, Pretraining
from scfs.views.images import normalize
from scfs.views.loader import ViewBatches
from scfs.weights.store import load_backbone, load_classifier, load_weights

COLOURS = {"blue": (30, 60, 200), "green": (40, 180, 50), "red": (210, 40, 30)}


@pytest.fixture(scope="module")
def coloured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, random = tmp_path_factory.mktemp("coloured"), np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / name).mkdir()
        for index in range(8):
            pixels = np.clip(np.array(colour) + random.normal(0, 25, (40, 40, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder


@pytest.fixture
def settings(tiny: Pretrain) -> Pretrain:
    views = {**tiny.views.model_dump(), "jitter": 0, "grey": 0, "solarize": 0}
    optimizer = {"lr": 0.2, "warmup_epochs": 1, "min_lr": 0.001, "teacher_momentum": 0.5}
    return Pretrain.model_validate(
        tiny.model_dump() | {"method": "supervised", "epochs": 8, "views": views, "optimizer": optimizer}
    )


def changed(settings: Pretrain, **values: Any) -> Pretrain:
    return Pretrain.model_validate(settings.model_dump() | values)


@pytest.mark.parametrize("backbone", ["narrow_resnet18", "narrow_vit_8"])
def test_colours_are_learnt_and_the_average_knows_them_too(
    settings: Pretrain, coloured: Path, tmp_path: Path, backbone: str
) -> None:
    train(changed(settings, backbone=backbone), coloured, tmp_path)
    record = json.loads((tmp_path / "r.json").read_text())
    curve = record["curve"]
    assert set(curve) == {"epoch", "step", "lr", "loss", "loss_data", "accuracy"}
    assert curve["loss"] == curve["loss_data"] and curve["loss"][-1] < 0.5 * curve["loss"][0]
    assert curve["accuracy"][-1] > 90
    assert record["values"]["loss_data_over_ln_k"] == pytest.approx(curve["loss_data"][-1] / math.log(3))
    images = image_folder(coloured)
    batch = ViewBatches(images, settings.views, 24, 1, 7)[0]
    pixels = normalize(batch.global_crops[:24])
    for encoder in ("student", "teacher"):
        trained, weights = load_backbone(tmp_path / "w.safetensors", encoder)
        classifier = load_classifier(tmp_path / "w.safetensors", encoder)
        assert weights.classes == ["blue", "green", "red"] and classifier is not None
        maps = trained(pixels)
        feature = maps["cls"] if "cls" in maps else maps["layer4"].mean((2, 3))
        right = classifier(feature).argmax(1) == torch.from_numpy(images.require_labels())[batch.rows]
        assert right.float().mean() > 0.7, encoder  # a third by chance; how many of the 24 differs among processors


def test_resumes_exactly(settings: Pretrain, coloured: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(settings, coloured, whole)
    cut_short(whole, cut)
    train(settings, coloured, cut)
    assert_same_outcome(cut, whole)


def test_loss_is_the_mean_over_all_crops_of_the_images_own_classes(settings: Pretrain, coloured: Path) -> None:
    images = image_folder(coloured)
    labels = torch.from_numpy(images.require_labels())
    training = Pretraining(settings, 4, torch.device("cpu"), "fp64", "", Labels(labels, 3))
    assert training.metrics.ln_k == math.log(3)
    model = training.model
    assert isinstance(model, Supervised)
    batch = ViewBatches(images, settings.views, 6, 1, 0)[0]
    crops = [training._images(part) for part in (batch.global_crops, batch.local_crops) if part is not None]
    logits = torch.cat([model.student.classifier(model.student.backbone(c)["layer4"].mean((2, 3))) for c in crops])
    expected, right = 0.0, 0
    for view in range(4):  # two global and two local ones, crop-major
        for place, row in enumerate(batch.rows.tolist()):
            of_crop = logits[view * 6 + place]
            expected += -F.log_softmax(of_crop, 0)[labels[row]].item() / 24
            right += int(of_crop.argmax() == labels[row])
    terms = training.train_step(batch)
    assert terms["loss"].item() == pytest.approx(expected, rel=1e-12)
    assert terms["accuracy"].item() == pytest.approx(100 * right / 24)


def test_average_holds_parameters_and_statistics_alike(settings: Pretrain, coloured: Path) -> None:
    images = image_folder(coloured)
    labels = Labels(torch.from_numpy(images.require_labels()), 3)
    training = Pretraining(settings, 4, torch.device("cpu"), "fp64", "", labels)
    before = {name: value.clone() for name, value in training.model.teacher.state_dict().items()}
    training.train_step(ViewBatches(images, settings.views, 6, 1, 0)[0])
    student = training.model.student.state_dict()
    for name, value in training.model.teacher.state_dict().items():  # the momentum of the first step is 0.5
        middle = student[name] if name.endswith("num_batches_tracked") else (before[name] + student[name]) / 2
        torch.testing.assert_close(value, middle, rtol=1e-12, atol=1e-12, msg=name)


def test_no_epochs_export_a_classifier_too_and_other_methods_none(
    settings: Pretrain, coloured: Path, tmp_path: Path
) -> None:
    optimizer = {**settings.optimizer.model_dump(), "warmup_epochs": 0}
    train(changed(settings, epochs=0, optimizer=optimizer), coloured, tmp_path / "supervised")
    classifier = load_classifier(tmp_path / "supervised" / "w.safetensors")
    assert classifier is not None and classifier.weight.shape == (3, 128)
    names = load_weights(tmp_path / "supervised" / "w.safetensors", "student.")[0]
    assert not [name for name in names if "head" in name]
    train(changed(settings, epochs=0, optimizer=optimizer, method="dino"), coloured, tmp_path / "dino")
    assert load_classifier(tmp_path / "dino" / "w.safetensors") is None


def test_without_labels_or_with_one_class_it_says_so(
    settings: Pretrain, coloured: Path, noise_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ScfsError, match="has no labels, and they are needed here"):
        train(settings, noise_folder, tmp_path)
    single = tmp_path / "images" / "one"
    single.mkdir(parents=True)
    for index, path in enumerate(coloured.rglob("*.png")):
        (single / f"{index}.png").write_bytes(path.read_bytes())
    with pytest.raises(ScfsError, match=r"classes = \['one'\]: supervised training needs two or more"):
        train(settings, single.parent, tmp_path)
    assert not (tmp_path / "w.safetensors").exists()
