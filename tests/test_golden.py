"""The method against what the authors' released code computes, in float64 (tests/golden/README.md explains the keys).

SCFS_GOLDEN names another recording; every size is derived from its arrays.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from scfs.config.pretrain import Optimizer, Pretrain
from scfs.model.losses import batch_mean, data_loss, teacher_probabilities, updated_center
from scfs.model.scfs import SCFS, Encoder
from scfs.model.search import attention_map, search_query, searched_features
from scfs.training.optimizer import LARS, clip_each
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


def load_before_step(encoder: Encoder, name: str) -> None:
    """Load the state before the step.

    The committed recording kept its BatchNorm buffers by reference, so that those "before" already are those after (the
    counters show it); the step began with BatchNorm's initial values.
    """
    state, after = with_prefix(f"search/{name}."), with_prefix(f"search/after.{name}.")
    encoder.load_state_dict(state)
    for key, module in encoder.named_modules():
        counter = f"{key}.num_batches_tracked"
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and state[counter] == after[counter]:
            module.reset_running_stats()


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


class Step:
    """One step of ours on the recorded states and maps."""

    def __init__(self, temperature: float) -> None:
        settings = golden_settings()
        channels = {layer: golden(f"search/student_global.{layer}").shape[1] for layer in LAYERS}
        self.model = SCFS(Encoder(nn.Identity(), channels, settings), settings).double()
        load_before_step(self.model.student, "student")
        load_before_step(self.model.teacher, "teacher")
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
        self.terms = self.model.losses(*self.maps.values(), temperature)
        self.terms["loss"].backward()
        self.model.move_centers()


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
    model = SCFS(Encoder(nn.Identity(), {lay: golden(f"search/student_global.{lay}").shape[1] for lay in LAYERS},
                         golden_settings()), golden_settings()).double()  # fmt: skip
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
    channels = {layer: golden(f"search/student_global.{layer}").shape[1] for layer in LAYERS}
    encoder = Encoder(nn.Identity(), channels, golden_settings()).double()
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
    parameters = []
    for gradient, norm in zip(recorded.values(), norms):
        # The committed recording holds the gradients after the clipping; the recorded norms give them back.
        before = gradient if torch.isclose(gradient.norm(), norm) else gradient * (norm + 1e-6) / limit
        parameters.append(torch.nn.Parameter(torch.zeros_like(before)))
        parameters[-1].grad = before.clone()
    assert_same(torch.stack(clip_each(parameters, limit)), norms, "norms")
    assert (norms > limit).any() and (norms < limit).any()
    for name, parameter in zip(recorded, parameters):
        assert_same(parameter.grad, after[name], name)


def lars_by_the_formula(value: Tensor, gradients: list[Tensor], decay: float) -> Tensor:
    lr, _, momentum, eta = GOLDEN["lars/hyper_lr_wd_mu_eta"].tolist()
    velocity = torch.zeros_like(value)
    for gradient in gradients:
        update = gradient
        if value.ndim > 1:
            update = gradient + decay * value
            update = update * eta * value.norm() / update.norm()
        velocity = momentum * velocity + update
        value = value - lr * velocity
    return value


def test_lars() -> None:
    lr, weight_decay, momentum, eta = GOLDEN["lars/hyper_lr_wd_mu_eta"].tolist()
    final = max(int(key[len("lars/param")]) for key in GOLDEN.files if key.startswith("lars/param"))
    for name, value in with_prefix(f"lars/param{final}.").items():
        gradients = [golden(f"lars/grad{step}.{name}") for step in range(final)]
        start = golden(f"lars/param0.{name}")
        if torch.equal(start, value):
            # The committed recording kept the parameters by reference: all of them are the last ones. A norm layer began
            # at 1 and 0; where the others began is found backwards, which holds ours to the formula alone.
            if golden(f"lars/param0.{name.rpartition('.')[0]}.weight").ndim == 1:
                start = torch.full_like(value, float(name.endswith("weight")))
            else:
                for _ in range(60):
                    start = start + value - lars_by_the_formula(start, gradients, weight_decay)
        parameter = torch.nn.Parameter(start.clone())
        decay = weight_decay if parameter.ndim > 1 else 0.0
        optimizer = LARS([{"params": [parameter], "weight_decay": decay}], lr=lr, momentum=momentum, eta=eta)
        for gradient in gradients:
            parameter.grad = gradient.clone()
            optimizer.step()
        assert_same(parameter, value, name)
