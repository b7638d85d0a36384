"""The method against what the authors' released code computes, in float64 (tests/golden/README.md explains the keys).

SCFS_GOLDEN names another recording; every size is derived from its arrays.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from scfs.config.pretrain import Optimizer, Pretrain
from scfs.model.backbones.base import Network
from scfs.model.losses import batch_mean, data_loss, teacher_probabilities, updated_center
from scfs.model.methods.scfs import SCFS, BatchMaps, Encoder
from scfs.model.search import attention_map, search_query, searched_features
from scfs.training.optimizer import LARS, clip_per_parameter
from scfs.training.schedules import cosine_with_warmup, linear_warmup

GOLDEN = np.load(os.environ.get("SCFS_GOLDEN", Path(__file__).parent / "golden" / "official.npz"))
LAYERS = sorted({key.split(".")[-1] for key in GOLDEN.files if key.startswith("search/student_global.")})


def golden(key: str) -> Tensor:
    return torch.from_numpy(GOLDEN[key])


def with_prefix(prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): golden(key) for key in GOLDEN.files if key.startswith(prefix)}


def assert_same(ours: Tensor | float, theirs: Tensor | float, what: str) -> None:
    # The error is measured against the array's largest value: gradients that cancel to 1e-17 have no relative accuracy.
    ours, theirs = torch.as_tensor(ours, dtype=torch.float64).detach(), torch.as_tensor(theirs, dtype=torch.float64)
    scale = theirs.abs().max().clamp_min(1e-6)
    assert ours.shape == theirs.shape, what
    assert ((ours - theirs).abs().max() / scale) < 1e-9, what


@pytest.fixture(scope="module")
def temperature() -> float:
    start, final, warmup, _ = GOLDEN["search/temps_warmup_final_epochs_total"].tolist()
    return linear_warmup(int(golden("search/epoch")), start, final, int(warmup))


def golden_settings() -> Pretrain:
    student = with_prefix("search/student.")
    first = f"{LAYERS[0]}_head"
    return Pretrain.model_validate(
        {
            "dataset": "golden",
            "method": "scfs",
            "layers": LAYERS,
            "head": {
                "hidden": student["head.mlp.0.weight"].shape[0],
                "bottleneck": student["head.mlp.4.weight"].shape[0],
                "prototypes": student["head.last_layer.weight_v"].shape[0],
            },
            "search_head": {
                "width": student[f"{first}.conv1.weight"].shape[0],
                "hidden": student[f"{first}.mlp.0.weight"].shape[0],
                "output": student[f"{first}.mlp.3.weight"].shape[0],
            },
        }
    )


def network() -> Network:
    """A backbone that is never called, with the channels of the recorded maps."""
    backbone = Network()
    backbone.channels = {layer: golden(f"search/student_global.{layer}").shape[1] for layer in LAYERS}
    return backbone


class Step:
    """One step of ours on the recorded states and maps."""

    def __init__(self, temperature: float) -> None:
        settings = golden_settings()
        self.model = SCFS(network(), settings).double()
        self.model.student.load_state_dict(with_prefix("search/student."))
        self.model.teacher.load_state_dict(with_prefix("search/teacher."))
        self.model.get_buffer("center").copy_(golden("search/center"))
        for layer in LAYERS:
            self.model.get_buffer(f"{layer}_center").copy_(golden(f"search/{layer}.center"))
        self.maps = {
            name: {layer: golden(f"search/{name}.{layer}").clone() for layer in LAYERS}
            for name in ("student_global", "student_local", "teacher_global")
        }
        for name in ("student_global", "student_local"):
            for feature_map in self.maps[name].values():
                feature_map.requires_grad_()
        self.terms = self.model.losses(BatchMaps(*self.maps.values()), temperature)
        self.terms["loss"].backward()
        self.model.update_center()


@pytest.fixture(scope="module")
def step(temperature: float) -> Step:
    return Step(temperature)


def test_losses(step: Step) -> None:
    assert_same(step.terms["loss_data"], golden("search/loss_data"), "data loss")
    for layer in LAYERS:
        assert_same(step.terms[f"loss_{layer}_global"], golden(f"search/{layer}.loss_global"), layer)
        assert_same(step.terms[f"loss_{layer}_search"], golden(f"search/{layer}.loss_search"), layer)
    assert_same(step.terms["loss"], golden("search/loss_total"), "total")


def test_gradients_of_parameters_and_maps(step: Step) -> None:
    recorded = with_prefix("search/grad.student.")
    ours = {name: p.grad for name, p in step.model.student.named_parameters() if p.grad is not None}
    assert set(ours) == set(recorded)
    for name, gradient in recorded.items():
        if gradient.abs().max() > 1e-12:  # a bias before BatchNorm has none but rounding
            assert_same(ours[name], gradient, name)
        else:
            assert ours[name].abs().max() < 1e-12, name
    for name in ("student_global", "student_local"):
        for layer in LAYERS:
            assert_same(step.maps[name][layer].grad, golden(f"search/grad.{name}.{layer}"), f"{name}.{layer}")


def test_centers_move_on(step: Step) -> None:
    assert_same(step.model.get_buffer("center"), golden("search/center_after"), "center")
    for layer in LAYERS:
        assert_same(step.model.get_buffer(f"{layer}_center"), golden(f"search/{layer}.center_after"), layer)


@pytest.mark.parametrize("encoder", ["student", "teacher"])
def test_batchnorm_buffers_after_the_step(step: Step, encoder: str) -> None:
    buffers = dict(getattr(step.model, encoder).named_buffers())
    recorded = with_prefix(f"search/after.{encoder}.")
    assert recorded
    for name, value in recorded.items():
        assert_same(buffers[name], value, f"{encoder}.{name}")


def test_attention_and_searched_outputs() -> None:
    """Eq. 5, 6 and 7, one by one, over the first global view."""
    model = SCFS(network(), golden_settings()).double()
    model.teacher.load_state_dict(with_prefix("search/teacher."))
    model.student.load_state_dict(with_prefix("search/student."))
    for layer in LAYERS:
        maps = golden(f"search/teacher_global.{layer}")
        first_view = maps[: len(maps) // 2]
        B, C = first_view.shape[:2]
        query = search_query(golden(f"search/student_local.{layer}")).view(-1, B, C).transpose(0, 1)
        attention = attention_map(query, first_view)
        assert_same(attention, golden(f"search/{layer}.attention"), layer)
        searched = model.teacher.layer_head(layer)(searched_features(attention, first_view))
        assert_same(searched, golden(f"search/teacher_search_out.{layer}"), layer)
        for name, head in (
            ("student_global", model.student),
            ("student_local", model.student),
            ("teacher_global", model.teacher),
        ):
            outputs = head.layer_head(layer)(golden(f"search/{name}.{layer}"))
            assert_same(outputs, golden(f"search/{name}_out.{layer}"), f"{name}.{layer}")


def test_projection_head() -> None:
    encoder = Encoder(network(), golden_settings()).double()
    for encoder_name, pairs in {
        "student": (("student_global", "student_global_logits"), ("student_local", "student_local_logits")),
        "teacher": (("teacher_global", "teacher_logits"),),
    }.items():
        encoder.load_state_dict(with_prefix(f"search/{encoder_name}."))
        for name, logits in pairs:
            assert_same(encoder.head(golden(f"search/{name}.layer4").mean((2, 3))), golden(f"search/{logits}"), logits)


def test_dino_loss_over_epochs() -> None:
    student, teacher = golden("dino/student"), golden("dino/teacher")
    temperatures = golden("dino/teacher_temp")
    warmup = int((temperatures != temperatures[-1]).sum()) + 1
    center = torch.zeros(1, student.shape[-1], dtype=torch.float64)
    for epoch in range(len(student)):
        temperature = linear_warmup(epoch, float(temperatures[0]), float(temperatures[-1]), warmup)
        assert_same(temperature, temperatures[epoch], f"tau' of epoch {epoch}")
        targets = teacher_probabilities(teacher[epoch], center, temperature)
        of_global, of_local = student[epoch][: len(targets)], student[epoch][len(targets) :]
        assert_same(data_loss(of_global, of_local, targets, 0.1), golden("dino/loss")[epoch], f"epoch {epoch}")
        center = updated_center(center, batch_mean(teacher[epoch]), 0.9)
        assert_same(center, golden("dino/center")[epoch], f"center after epoch {epoch}")


def test_schedules() -> None:
    settings = Optimizer()
    total = len(GOLDEN["schedule/lr"])
    warmup = int(GOLDEN["schedule/lr"].argmax()) + 1  # the peak is the last step of the warm-up
    lr = [cosine_with_warmup(s, settings.lr * 1024 / 256, settings.min_lr, total, warmup) for s in range(total)]
    momentum = [cosine_with_warmup(s, settings.teacher_momentum, 1.0, total) for s in range(total)]
    decay = [cosine_with_warmup(s, 0.04, 0.4, total) for s in range(total)]
    assert_same(torch.tensor(lr, dtype=torch.float64), golden("schedule/lr"), "lr")
    assert_same(torch.tensor(momentum, dtype=torch.float64), golden("schedule/momentum"), "momentum")
    assert_same(torch.tensor(decay, dtype=torch.float64), golden("schedule/wd"), "weight decay")


def test_clipping_of_each_parameter() -> None:
    limit = Optimizer().clip
    recorded, after, norms = with_prefix("clip/grad."), with_prefix("clip/after."), golden("clip/norms")
    parameters = [torch.nn.Parameter(torch.zeros_like(gradient)) for gradient in recorded.values()]
    for parameter, gradient in zip(parameters, recorded.values(), strict=True):
        parameter.grad = gradient.clone()
    assert_same(torch.stack(clip_per_parameter(parameters, limit)), norms, "norms")
    assert (norms > limit).any() and (norms < limit).any()
    for name, parameter in zip(recorded, parameters, strict=True):
        assert_same(parameter.grad, after[name], name)


def test_lars() -> None:
    """Every step of the recording, from its first parameters."""
    lr, weight_decay, momentum, eta = GOLDEN["lars/hyper_lr_wd_mu_eta"].tolist()
    final = max(int(key[len("lars/param")]) for key in GOLDEN.files if key.startswith("lars/param"))
    for name, start in with_prefix("lars/param0.").items():
        parameter = torch.nn.Parameter(start.clone())
        decay = weight_decay if parameter.ndim > 1 else 0.0
        optimizer = LARS([{"params": [parameter], "weight_decay": decay}], lr=lr, momentum=momentum, eta=eta)
        for step in range(final):
            parameter.grad = golden(f"lars/grad{step}.{name}").clone()
            optimizer.step()
            assert_same(parameter, golden(f"lars/param{step + 1}.{name}"), f"{name} after step {step + 1}")
        assert not torch.equal(parameter, start), name
