"""examples/minimal.py is the whole method on one page: it is short, it runs, and its step is the product's."""

import math
import subprocess
from pathlib import Path

import numpy as np
import pytest
import ranks
import torch
from PIL import Image
from repository import ROOT, command_environment
from torch import Tensor

from benchmarks.step import batch_of, crops_of
from examples.minimal import TAU_TEACHER, Scfs
from scfs.config.pretrain import Pretrain
from scfs.training.loop import Pretraining

EXAMPLE = ROOT / "examples" / "minimal.py"
CPU = torch.device("cpu")
SETTINGS = Pretrain.model_validate(
    {
        "dataset": "noise",
        "backbone": "narrow_resnet18",
        "batch": 4,
        "epochs": 2,
        "views": {"global_size": 64, "local_size": 48, "local_number": 3},
        "head": {"hidden": 16, "bottleneck": 8, "prototypes": 24},
        "search_head": {"width": 8, "hidden": 16, "output": 8},
        "loss": {"teacher_temperature": (TAU_TEACHER, TAU_TEACHER), "teacher_temperature_warmup": 0},
        "optimizer": {"warmup_epochs": 0, "lr": 2.0, "freeze_last_layer": 0},
    }
)
MODULES = {"backbone": "backbone", "head": "head", "layer2_head": "layer2", "layer3_head": "layer3"}
MODULES |= {"layer4_head": "layer4"}
"""Name of a part of the product's encoder -> its name in the example."""


def assert_equal(one: Tensor, other: Tensor, what: str) -> None:
    """Equal to 1e-12 of the largest value; a bias in front of BatchNorm has no gradient but rounding."""
    assert (one - other).abs().max() <= 1e-12 * (1 + other.abs().max()), what


def test_it_is_one_page() -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 100


def test_two_steps_are_the_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss, all gradients after clipping, all weights and buffers, and all centres."""
    ranks.shallow_backbones(monkeypatch)
    training = Pretraining(SETTINGS, 2, CPU, "fp64", "")
    product = training.model
    example = Scfs(SETTINGS.backbone, SETTINGS.head, SETTINGS.search_head, lr=training.schedules.lr(0))
    for network in (example.student, example.teacher):
        network.double().train()
    for ours, theirs in MODULES.items():
        for encoder, network in ((product.student, example.student), (product.teacher, example.teacher)):
            network[theirs].load_state_dict(encoder.get_submodule(ours).state_dict())
    before = example.student["backbone"].conv1.weight.detach().clone()
    for step in range(2):
        batch = batch_of(SETTINGS, seed=step)
        terms = training.train_step(batch)
        for group in example.optimizer.param_groups:
            group["lr"] = training.schedules.lr(step)
        first, second, *local = crops_of(batch, CPU, torch.float64)
        momentum = training.schedules.teacher_momentum(step)
        loss = example.step(torch.cat([first, second]), torch.cat(local), momentum)
        assert loss == pytest.approx(terms["loss"].item(), rel=1e-12)
        for ours, theirs in MODULES.items():
            gradients = {name: p.grad for name, p in product.student.get_submodule(ours).named_parameters()}
            for name, parameter in example.student[theirs].named_parameters():
                if parameter.requires_grad:
                    assert_equal(parameter.grad, gradients[name], f"gradient of {ours}.{name}")
            for kind in ("student", "teacher"):
                state = getattr(product, kind).get_submodule(ours).state_dict()
                for name, value in getattr(example, kind)[theirs].state_dict().items():
                    assert_equal(value, state[name], f"{kind}.{ours}.{name}")
            if ours != "backbone":
                name = "center" if ours == "head" else ours.replace("head", "center")
                assert_equal(example.centers[theirs], product.get_buffer(name), name)
    assert (example.student["backbone"].conv1.weight - before).abs().max() > 1e-6


@pytest.mark.parametrize("images", [0, 17])
def test_it_runs(images: int, tmp_path: Path) -> None:
    """On noise without a folder, else on whole batches of a folder's images."""
    noise = np.random.default_rng(0).integers(0, 256, (images, 40, 50, 3), dtype=np.uint8)
    for index, pixels in enumerate(noise):
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    command = ["warm-python", str(EXAMPLE), *([str(tmp_path)] if images else [])]
    environment = command_environment(ROOT, warm=True)
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    losses = [float(line.split("loss ")[1]) for line in done.stdout.splitlines()]
    assert len(losses) == (2 if images else 4) and all(map(math.isfinite, losses))
