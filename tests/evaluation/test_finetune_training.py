"""Steps of fine-tuning against an update written by hand in float64, an exact resume, and what is measured."""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from tuned import batch_of, small

from scfs import paths
from scfs.config.finetune import FineTune
from scfs.config.identity import STAGE_VERSIONS
from scfs.data.decoding import decode
from scfs.data.manifest import ImageSet
from scfs.data.opening import open_split
from scfs.errors import ScfsError
from scfs.evaluation.finetune.accuracy import accuracies, evaluate
from scfs.evaluation.finetune.crops import CropBatches
from scfs.evaluation.finetune.training import FineTuning, batch_norm_momentum
from scfs.evaluation.ranks import ranks_of_true_class
from scfs.model.backbones.registry import build_backbone
from scfs.training.checkpointing import snapshot
from scfs.training.metrics import DivergedError
from scfs.views.images import normalize, resize_crop

CPU = torch.device("cpu")
Start = Callable[..., FineTuning]


@pytest.fixture
def images(workplace: Path) -> ImageSet:
    return open_split(paths.manifest("colours"), "train")


@pytest.fixture
def start(images: ImageSet) -> Start:
    def begin(
        protocol: FineTune, lr: float, weight_decay: float, name: str = "narrow_resnet18", precision: str = "fp64"
    ) -> FineTuning:
        torch.manual_seed(0)
        data = CropBatches(images, protocol)
        return FineTuning(protocol, lr, weight_decay, build_backbone(name), data, CPU, precision, "an identity")

    return begin


class ByHand:
    """The same network, and the formulas of the update without an optimiser."""

    def __init__(self, training: FineTuning, lr: float, decay: float, batch: int, steps: int) -> None:
        self.model, self.lr, self.decay = copy.deepcopy(training.model), lr * batch / 256, decay
        self.steps, self.step = steps, 0
        self.moved = {name: torch.zeros_like(value) for name, value in self.model.named_parameters()}

    def loss(self, pixels: Tensor, labels: Tensor) -> Tensor:
        maps = self.model.backbone(normalize(pixels, torch.float64))
        feature = maps["cls"] if "cls" in maps else maps["layer4"].mean((2, 3))
        logits = feature @ self.model.classifier.weight.T + self.model.classifier.bias
        return -logits.log_softmax(1)[torch.arange(len(labels)), labels].mean()

    def update(self, loss: Tensor) -> None:
        """Nesterov: the buffer is 0.9 of itself and the gradient; the step looks ahead along it."""
        named = dict(self.model.named_parameters())
        rate = self.lr * (1 + math.cos(math.pi * self.step / self.steps)) / 2
        for (name, value), slope in zip(named.items(), torch.autograd.grad(loss, list(named.values())), strict=True):
            norm = "bn" in name or "downsample.1" in name or "norm" in name
            with torch.no_grad():
                slope = slope if norm else slope + self.decay * value
                self.moved[name] = 0.9 * self.moved[name] + slope
                value -= rate * (slope + 0.9 * self.moved[name])
        self.step += 1


def close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize(("backbone", "weight_decay"), [("narrow_resnet18", 0.02), ("narrow_vit_8", 0.01)])
def test_steps_are_those_of_the_formulas(start: Start, images: ImageSet, backbone: str, weight_decay: float) -> None:
    protocol = small(steps=4)
    data, training = CropBatches(images, protocol), start(protocol, 0.4, weight_decay, backbone)
    reference = ByHand(training, 0.4, weight_decay / 0.4, 12, 4)
    first = {name: value.clone() for name, value in training.model.named_parameters()}
    for step in range(3):
        expected = reference.loss(data[step].pixels, data[step].labels)
        reference.update(expected)
        assert training.train_step(batch_of(data, step))["loss"].item() == pytest.approx(expected.item(), rel=1e-9)
    ours, theirs = training.model.state_dict(), reference.model.state_dict()
    for name, value in theirs.items():
        assert close(ours[name].double(), value.double()), name
    assert all(not torch.equal(ours[name], value) for name, value in first.items())  # every parameter is trained


def test_parts_of_a_batch_add_up_and_batch_norm_sees_them_apart(start: Start, images: ImageSet) -> None:
    protocol = small(steps=4, accumulate=2)
    data, training = CropBatches(images, protocol), start(protocol, 0.4, 0.0)
    reference = ByHand(training, 0.4, 0.0, 12, 4)
    for step in range(2):
        halves = [reference.loss(part.pixels, part.labels) for part in batch_of(data, step)]
        reference.update((halves[0] + halves[1]) / 2)
        assert training.train_step(batch_of(data, step))["loss"].item() == pytest.approx(
            sum(halves).item() / 2, rel=1e-9
        )
    for name, value in reference.model.state_dict().items():
        assert close(training.model.state_dict()[name].double(), value.double()), name


def test_terms_are_the_loss_and_the_accuracy(start: Start, images: ImageSet) -> None:
    protocol = small()
    batch, training = CropBatches(images, protocol)[0], start(protocol, 0.1, 0.0)
    model = copy.deepcopy(training.model)
    logits = model.classifier(model.backbone(normalize(batch.pixels, torch.float64))["layer4"].mean((2, 3)))
    expected = 100 * np.mean([row.argmax() == label for row, label in zip(logits, batch.labels, strict=True)])
    assert training.train_step([batch])["accuracy"].item() == pytest.approx(expected)


def test_the_classifier_starts_small_and_from_the_seed(start: Start) -> None:
    first, same, other = (start(small(seed=seed), 0.1, 0.0).model.classifier for seed in (0, 0, 1))
    assert first.weight.shape == (3, 256) and first.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert torch.equal(first.weight, same.weight) and not torch.equal(first.weight, other.weight)
    assert not first.bias.any()


@pytest.mark.parametrize(("batch", "momentum"), [(12, 0.1), (2, 10 / 21), (0.2, 10 / 210)])
def test_batch_norm_follows_the_steps_of_a_pass(start: Start, batch: float, momentum: float) -> None:
    """SimCLR's momentum is max(1 - 10 / s, 0.9); PyTorch's is one minus that."""
    assert batch_norm_momentum(42 / batch) == pytest.approx(1 - max(1 - 10 / (42 / batch), 0.9))
    assert batch_norm_momentum(42 / batch) == pytest.approx(min(momentum, 0.1))


def test_the_running_statistics_move_by_that(start: Start, images: ImageSet) -> None:
    many = images.subset(np.arange(42).repeat(10))  # 210 steps per pass
    protocol = small(batch=2)
    torch.manual_seed(0)
    data = CropBatches(many, protocol)
    training = FineTuning(protocol, 0.1, 0.0, build_backbone("narrow_resnet18"), data, CPU, "fp64", "")
    norms = [module for module in training.model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 20 and {norm.momentum for norm in norms} == {10 / 210}
    mean = training.model.backbone.conv1(normalize(data[0].pixels, torch.float64)).mean((0, 2, 3))
    training.train_step(batch_of(data, 0))
    assert close(training.model.backbone.bn1.running_mean, 10 / 210 * mean)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_resumes_to_the_same_bits(start: Start, images: ImageSet, precision: str, tmp_path: Path) -> None:
    protocol = small(steps=5)
    data = CropBatches(images, protocol)
    whole = start(protocol, 0.3, 0.01, precision=precision)
    for step in range(5):
        if step == 2:
            torch.save(snapshot(whole.state()), tmp_path / "state.pt")
        whole.train_step(batch_of(data, step))
    resumed = start(protocol, 0.3, 0.01, precision=precision)
    resumed.restore(torch.load(tmp_path / "state.pt", weights_only=True), tmp_path)
    for step in range(resumed.step, 5):
        resumed.train_step(batch_of(data, step))
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    assert whole.model.classifier.weight.dtype == torch.float32


def test_a_state_of_another_training_is_refused(start: Start) -> None:
    training = start(small(), 0.1, 0.0)
    with pytest.raises(ScfsError, match=r"here: its checkpoints are of identity other, this run's is an identity"):
        training.restore({**training.state(), "identity": "other"}, Path("here"))
    vit = start(small(), 0.1, 0.0, "narrow_vit_8").state()
    with pytest.raises(ScfsError, match=r"here: its checkpoint does not fit this architecture"):
        training.restore(vit, Path("here"))


def diverging(start: Start, images: ImageSet, steps: int) -> Any:
    """Step and error of a training at a rate that nothing survives."""
    protocol = small(steps=steps)
    data, training = CropBatches(images, protocol), start(protocol, 1e38, 0.0, precision="fp32")
    with pytest.raises(DivergedError) as caught:
        for step in range(steps):
            training.record(training.train_step(batch_of(data, step)))
    return training.step, caught.value


def test_divergence_is_that_of_the_first_step_that_is_not_finite(start: Start, images: ImageSet) -> None:
    step, error = diverging(start, images, 6)
    assert step == 6 and error.step == 1  # the losses are fetched together
    assert not math.isfinite(error.terms["loss"])
    assert error.lr == pytest.approx(1e38 * 12 / 256 * (1 + math.cos(math.pi / 6)) / 2)


def test_weights_that_explode_in_the_last_step_are_seen(start: Start, images: ImageSet) -> None:
    step, error = diverging(start, images, 1)
    assert step == 1 and error.step == 0 and math.isnan(error.terms["loss"])


def test_accuracies_by_hand() -> None:
    ranks = torch.tensor([0, 0, 0, 3, 0, 5, 4, 0])
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2])
    assert accuracies(ranks, labels, 3) == pytest.approx(
        {"top1": 100 * 5 / 8, "top5": 100 * 5 / 8, "mean_per_class": 100 * (3 / 4 + 1 / 2 + 1 / 2) / 3}
    )  # top 3 of 3 classes
    labels = torch.tensor([0, 1, 2, 3, 4, 5, 0, 0])
    found = accuracies(ranks, labels, 6)
    assert found["top5"] == pytest.approx(100 * 7 / 8)
    assert found["mean_per_class"] == pytest.approx(100 * (2 / 3 + 1 + 1 + 0 + 1 + 0) / 6)


def test_equal_scores_are_ordered_by_class() -> None:
    logits = torch.tensor([[1.0, 2.0, 2.0, 0.0], [1.0, 1.0, 1.0, 1.0], [0.0, 5.0, 4.0, 4.5]])
    assert [ranks_of_true_class(logits, torch.full((3,), k)).tolist() for k in range(4)] == [
        [2, 0, 3],
        [0, 1, 0],
        [1, 2, 2],
        [3, 3, 1],
    ]


def test_it_is_tested_in_eval_mode_on_the_clean_view(start: Start, images: ImageSet) -> None:
    protocol = small()
    training = start(protocol, 0.1, 0.0, precision="fp32")
    for step in range(2):
        training.train_step(batch_of(CropBatches(images, protocol), step))
    before = copy.deepcopy(training.model.state_dict())
    found = evaluate(training.model, protocol, images, CPU, 0)
    assert all(torch.equal(value, before[name]) for name, value in training.model.state_dict().items())
    model = copy.deepcopy(training.model).eval()
    views = np.stack([resize_crop(decode(images.read(row), "image"), 36, 32) for row in range(42)])
    with torch.no_grad():
        logits = model.classifier(model.backbone(normalize(torch.from_numpy(views)))["layer4"].mean((2, 3)))
    right = logits.argmax(1) == torch.from_numpy(images.require_labels())
    assert found["top1"] == pytest.approx(100 * right.double().mean().item())
    assert found["mean_per_class"] == pytest.approx(found["top1"])  # equal classes
    assert found["top5"] == 100


FINGERPRINT = {1: [1.1142766779, 1.0732604403, 1.0030342774, 91.81019083659, 1, 0, 0, 1, 2, 1, 1, 1, 82572.253765]}
"""By STAGE_VERSIONS["finetune"]: losses of three float64 steps; mean pixel and labels of the first part; all weights."""


def test_behaviour_is_that_of_the_version(start: Start, images: ImageSet) -> None:
    """As tests/test_fingerprint.py for pre-training: who changes what is computed raises the version, and records it."""
    protocol = small(steps=4, batch=16, accumulate=2, resize=72, crop=64, scale=[0.3, 1.0], seed=1)
    data, training = CropBatches(images, protocol), start(protocol, 0.2, 0.01)
    losses = [training.train_step(batch_of(data, step))["loss"].item() for step in range(3)]
    first = batch_of(data, 0)[0]
    weights = sum(value.double().abs().sum().item() for value in training.model.state_dict().values())
    found = [*losses, first.pixels.double().mean().item(), *map(float, first.labels), weights]
    assert found == pytest.approx(FINGERPRINT[STAGE_VERSIONS["finetune"]], rel=1e-4)
