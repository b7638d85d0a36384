"""A grid of rates is what separate trainings at each rate would give, and the held-out images choose."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from scfs import paths
from scfs.config.evaluation import Linear, LinearCached, Probe
from scfs.data.manifest import ImageSet
from scfs.data.opening import open_split
from scfs.errors import ScfsError
from scfs.evaluation import linear
from scfs.evaluation.features import FrozenEncoder, clean_view, extract
from scfs.evaluation.probe import Classifiers, LrGrid
from scfs.evaluation.result import EvaluationResult
from scfs.evaluation.subsets import validation_split

RATES = (0.001, 0.1, 3.0)
SMALL: dict[str, Any] = {"dataset": "colours", "resize": 36, "crop": 32, "batch": 16, "epochs": 3, "seeds": (3, 4)}
SWEEP: dict[str, Any] = {"lr_sweep": RATES, "validation": 0.3}
KINDS: dict[str, tuple[type[Probe], Callable[[Any, FrozenEncoder], EvaluationResult]]] = {
    "linear": (Linear, linear.evaluate),
    "linear_cached": (LinearCached, linear.evaluate_cached),
}


def measured(kind: str, encoder: FrozenEncoder, **settings: Any) -> EvaluationResult:
    protocol, evaluate = KINDS[kind]
    return evaluate(protocol.model_validate({"kind": kind, **SMALL, **settings}), encoder)


def alone(kind: str, encoder: FrozenEncoder, monkeypatch: pytest.MonkeyPatch, lr: float, held: np.ndarray) -> Tensor:
    """Weights (S, K, C) and biases of plain torch classifiers on the very features, without the held-out images."""
    seen: list[tuple[Tensor, Tensor, Tensor]] = []

    class Recording(LrGrid):
        def step(self, features: Tensor, labels: Tensor, rows: Tensor) -> None:
            seen.append((features, labels, rows))
            super().step(features, labels, rows)

    with monkeypatch.context() as patch:
        patch.setattr(linear, "LrGrid", Recording)
        measured(kind, encoder)
    found = []
    for index, seed in enumerate((3, 4)):
        layer = torch.nn.Linear(256, 3)
        with torch.no_grad():
            layer.weight.normal_(0, 0.01, generator=torch.Generator().manual_seed(seed))
            layer.bias.zero_()
        optimizer = torch.optim.SGD(layer.parameters(), lr=lr * 16 / 256, momentum=0.9)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=len(seen))
        for features, labels, rows in seen:
            own = [each if each.ndim == dims else each[index] for each, dims in ((features, 2), (labels, 1), (rows, 1))]
            kept = torch.from_numpy(~held)[own[2]]
            optimizer.zero_grad()
            F.cross_entropy(layer(own[0][kept]), own[1][kept]).backward()
            optimizer.step()
            schedule.step()
        found.append(torch.cat([layer.weight, layer.bias[:, None]], dim=1).detach())
    return torch.stack(found)


@pytest.fixture
def train(workplace: Path) -> ImageSet:
    return open_split(paths.manifest("colours"), "train")


@pytest.mark.parametrize("kind", KINDS)
def test_held_out_accuracies_are_those_of_trainings_without_these_images(
    kind: str, train: ImageSet, encoder: FrozenEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    grids: list[LrGrid] = []
    result = LrGrid.result
    monkeypatch.setattr(LrGrid, "result", lambda self, *arguments: grids.append(self) or result(self, *arguments))
    grid = measured(kind, encoder, **SWEEP).details["sweep"]
    held = validation_split(train, 0.3, 3)
    assert np.bincount(train.require_labels()[held]).tolist() == [4, 4, 4] and grid["held_out_images"] == 12
    clean = extract(encoder, train, ["layer4"], clean_view(Linear(kind="linear", dataset="", resize=36, crop=32)))[
        "layer4"
    ]
    features, labels = clean[held], torch.from_numpy(train.require_labels()[held])
    for lr, classifiers, tried in zip(RATES, grids[0].choosing, grid["tried"], strict=True):
        expected = alone(kind, encoder, monkeypatch, lr, held)
        torch.testing.assert_close(classifiers.weight.detach(), expected[:, :, :-1], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(classifiers.bias[:, 0].detach(), expected[:, :, -1], rtol=1e-4, atol=1e-6)
        logits = features @ expected[:, :, :-1].mT + expected[:, None, :, -1]
        top1 = 100 * (logits.argmax(2) == labels).double().mean().item()
        assert tried == {"lr": lr, "held_out_top1": pytest.approx(top1)}


@pytest.mark.parametrize("kind", KINDS)
def test_the_result_is_that_of_the_chosen_rate_alone(
    kind: str, train: ImageSet, encoder: FrozenEncoder, capfd: pytest.CaptureFixture[str]
) -> None:
    swept = measured(kind, encoder, **SWEEP)
    grid = swept.details["sweep"]
    best = max(grid["tried"], key=lambda each: (each["held_out_top1"], -each["lr"]))
    assert grid["lr"] == best["lr"] and len({each["held_out_top1"] for each in grid["tried"]}) > 1
    assert (
        f"chosen: lr {best['lr']:g}: top1 {best['held_out_top1']:.2f} on 12 validation images" in capfd.readouterr().err
    )
    single = measured(kind, encoder, lr=grid["lr"])
    assert swept.values == single.values and swept.details["seeds"] == single.details["seeds"]
    assert swept.values != measured(kind, encoder, lr=RATES[0]).values
    assert set(single.details) == {"seeds"}


def chosen(train: ImageSet, accuracies: dict[float, list[float]], **broken: Any) -> dict[str, Any]:
    """What a sweep records whose classifiers reach these held-out accuracies for two seeds."""
    protocol = LinearCached(kind="linear_cached", lr_sweep=tuple(accuracies), **SMALL)
    grid = LrGrid(protocol, train, 4, torch.device("cpu"))
    for rates, classifiers in zip(accuracies, zip(grid.choosing, grid.reported, strict=True), strict=True):
        for one in classifiers:
            one.accuracy = lambda *_, lr=rates: np.array(accuracies[lr])  # type: ignore[method-assign,misc]
    for which, index in broken.items():
        with torch.no_grad():
            getattr(grid, which)[index].weight[0, 0, 0] = float("nan")
    grid.test(torch.empty(0), torch.empty(0))
    return grid.result(lambda rows: torch.zeros(len(rows), 4), torch.zeros(len(train), dtype=torch.int64))[1]["sweep"]


def test_choice_is_by_the_mean_over_seeds_and_of_equals_the_lowest(
    train: ImageSet, capfd: pytest.CaptureFixture[str]
) -> None:
    assert chosen(train, {0.3: [50, 60], 0.1: [54, 56], 0.2: [90, 0], 0.01: [1, 2]})["lr"] == 0.1
    assert "at the edge" not in capfd.readouterr().err
    assert chosen(train, {0.1: [50, 60], 0.3: [70, 70]})["lr"] == 0.3
    assert "warning: the chosen lr = 0.3 is at the edge of the grid [0.1, 0.3]" in capfd.readouterr().err


def test_a_rate_that_diverges_is_not_chosen(train: ImageSet) -> None:
    accuracies: dict[float, list[float]] = {0.1: [50, 60], 0.2: [70, 70], 0.3: [90, 90]}
    grid = chosen(train, accuracies, choosing=2, reported=1)
    assert grid["lr"] == 0.1
    assert grid["tried"][1:] == [{"lr": 0.2, "diverged": True}, {"lr": 0.3, "diverged": True}]
    with pytest.raises(ScfsError, match=r"lr_sweep = \[0.1, 0.2\]: the classifiers of all rates diverged"):
        chosen(train, {0.1: [1, 1], 0.2: [2, 2]}, choosing=0, reported=1)


def test_a_batch_of_held_out_images_alone_is_a_step_without_a_gradient() -> None:
    protocol = LinearCached(kind="linear_cached", dataset="any", batch=4, lr=1.0)
    classifiers, plain = (Classifiers(5, 3, protocol, 4, torch.device("cpu")) for _ in range(2))
    features, labels = torch.randn(4, 5), torch.tensor([0, 1, 2, 0])
    before = classifiers.weight.detach().clone()
    classifiers.step(features, labels, torch.zeros(4, dtype=torch.bool))
    assert torch.equal(classifiers.weight, before) and classifiers.step_count == 1
    plain.step(features, labels, torch.ones(4, dtype=torch.bool))
    assert not torch.equal(plain.weight, before)


@pytest.mark.parametrize("rates", [(0.1,), (0.1, 0.1), (0.1, 0.0)])
def test_a_sweep_has_two_rates_or_more(rates: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="lr_sweep"):
        Linear(kind="linear", dataset="any", lr_sweep=rates)


def test_a_class_of_one_image_cannot_be_validation_split(
    train: ImageSet, encoder: FrozenEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = train.subset(np.array([0, 14, 15, 28, 29]))
    protocol = LinearCached(kind="linear_cached", **SMALL, **SWEEP)
    with pytest.raises(ScfsError, match=r"validation = 0.3: takes all 1 labelled images of class 'blue'"):
        LrGrid(protocol, few, 256, torch.device("cpu"))
