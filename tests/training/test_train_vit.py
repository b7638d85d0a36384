"""Training of ViTs: drop path, resumes, parts of a batch, and the recipe of Table 10."""

from pathlib import Path
from typing import Any

import pytest
import torch
from test_resume import assert_same_outcome, cut_short, train
from test_step import batch
from torch import Tensor

from scfs.config.pretrain import Pretrain
from scfs.model.backbones.vit import ViT
from scfs.training.loop import Pretraining
from scfs.training.optimizer import build_optimizer
from scfs.training.schedules import Schedules

VIT = {"backbone": "narrow_vit_8", "drop_path": 0.4}


def vit(tiny: Pretrain, **values: Any) -> Pretrain:
    return Pretrain.model_validate(tiny.model_dump() | VIT | values)


@pytest.mark.parametrize("method", ["scfs", "dino"])
def test_resumes_exactly_with_drop_path(tiny: Pretrain, noise_folder: Path, tmp_path: Path, method: str) -> None:
    settings = vit(tiny, method=method)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(settings, noise_folder, whole)
    cut_short(whole, cut)
    torch.manual_seed(12345)  # draws from the global generator would show
    train(settings, noise_folder, cut)
    assert_same_outcome(cut, whole)
    train(vit(tiny, method=method, drop_path=0.0), noise_folder, tmp_path / "other")
    assert (tmp_path / "other" / "w.safetensors").read_bytes() != (whole / "w.safetensors").read_bytes()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_resumes_exactly_too(tiny: Pretrain, noise_folder: Path, tmp_path: Path, precision: str) -> None:
    views = {"global_size": 48, "local_size": 24, "local_number": 2}
    settings = vit(tiny, precision=precision, views=views)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(settings, noise_folder, whole)
    cut_short(whole, cut)
    train(settings, noise_folder, cut)
    assert_same_outcome(cut, whole)


def test_parts_of_a_batch_give_the_step_of_the_whole(tiny: Pretrain) -> None:
    """Without BatchNorm anywhere, so that different images in the parts change nothing: drop path goes by image."""
    head = {**tiny.head.model_dump(), "batch_norm": False}
    models = []
    for parts in (1, 2, 3):
        training = Pretraining(
            vit(tiny, method="dino", head=head, accumulate=parts), 4, torch.device("cpu"), "fp64", ""
        )
        for step in range(3):
            training.train_step(batch([4, 9, 2, 7, 5, 1], step))
        models.append(training.model)
    for other in models[1:]:
        for (name, one), two in zip(models[0].state_dict().items(), other.state_dict().values(), strict=True):
            torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-11, msg=name)


def test_the_students_blocks_alone_are_left_out(tiny: Pretrain, monkeypatch: pytest.MonkeyPatch) -> None:
    training = Pretraining(vit(tiny), 4, torch.device("cpu"), "fp32", "")
    seen: list[tuple[bool, int, Tensor | None]] = []
    forward = ViT.forward

    def recording(self: ViT, images: Tensor, drop_path: Tensor | None = None) -> dict[str, Tensor]:
        seen.append((self is training.model.student.backbone, len(images), drop_path))
        return forward(self, images, drop_path)

    monkeypatch.setattr(ViT, "forward", recording)
    training.train_step(batch([1, 2, 3, 4, 5, 6]))
    # The teacher first: what it needs of memory is given back before the student keeps its own.
    assert [(student, number) for student, number, _ in seen] == [(False, 12), (True, 12), (True, 12)]
    of_teacher, of_global, of_local = (factors for *_, factors in seen)
    assert of_teacher is None and of_global is not None and of_local is not None
    assert of_global.shape == of_local.shape == (12, 4, 2)
    assert not torch.equal(of_global, of_local)


@pytest.mark.parametrize("method", ["scfs", "dino", "dino_ml", "roi_crop"])
@pytest.mark.parametrize("preset", ["official", "paper"])
def test_every_method_moves_every_parameter_of_the_student(tiny: Pretrain, method: str, preset: str) -> None:
    settings = vit(tiny, method=method, preset=preset, drop_path=0.0)
    training = Pretraining(settings, 4, torch.device("cpu"), "fp32", "")
    before = {name: value.clone() for name, value in training.model.student.named_parameters()}
    for step in range(5):
        terms = training.train_step(batch([1, 2, 3, 4, 5, 6], step))
        assert all(torch.isfinite(term) for term in terms.values())
    for name, value in training.model.student.named_parameters():
        assert not torch.equal(value, before[name]) or name == "head.last_layer.weight_g", name


TABLE_10 = {
    "dataset": "imagenet",
    "backbone": "vit_small_16",
    "drop_path": 0.1,
    "batch": 256,
    "epochs": 200,
    "loss": {"teacher_temperature_warmup": 30},
    "optimizer": {
        **{"name": "adamw", "lr": 5e-4, "min_lr": 1e-6, "warmup_epochs": 10},
        **{"weight_decay": 0.04, "weight_decay_end": 0.4},
    },
}


def test_recipe_of_table_10_can_be_written_down() -> None:
    settings = Pretrain.model_validate(TABLE_10)
    schedules = Schedules(settings, steps_per_epoch=10)
    assert schedules.lr(99) == pytest.approx(5e-4) and schedules.lr(100) == pytest.approx(5e-4)
    assert schedules.lr(1999) == pytest.approx(1e-6, rel=0.01)
    twice = Schedules(Pretrain.model_validate(TABLE_10 | {"batch": 512}), steps_per_epoch=10)
    assert twice.lr(100) == pytest.approx(1e-3)
    assert schedules.weight_decay(0) == pytest.approx(0.04) and schedules.weight_decay(1999) == pytest.approx(
        0.4, rel=1e-4
    )
    assert [schedules.teacher_temperature(10 * epoch) for epoch in (0, 29, 100)] == pytest.approx([0.04, 0.07, 0.07])
    model = ViT("vit_small_16")
    optimizer = build_optimizer(model, settings.optimizer)
    assert isinstance(optimizer, torch.optim.AdamW)
    decayed = {id(parameter) for parameter in optimizer.param_groups[0]["params"]}
    for name, parameter in model.named_parameters():  # DINO: all but biases and vectors, so [CLS] and positions too
        assert (id(parameter) in decayed) == (not name.endswith(".bias") and parameter.ndim > 1), name
    assert {id(model.cls_token), id(model.pos_embed)} <= decayed
