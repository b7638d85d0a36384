import numpy as np
import pytest
import torch
import torch.nn.functional as F

from scfs.config.evaluation import LinearCached
from scfs.evaluation.probe import Classifiers, summary


def protocol(**settings: object) -> LinearCached:
    return LinearCached(kind="linear_cached", dataset="any", **settings)  # type: ignore[arg-type]


def test_classifiers_side_by_side_equal_plain_torch() -> None:
    seeds, batch, epochs, n = (5, 9), 8, 3, 20
    settings = protocol(seeds=seeds, batch=batch, lr=3.0, epochs=epochs)
    torch.manual_seed(0)
    features, labels = torch.randn(n, 6), torch.randint(0, 4, (n,))
    steps = epochs * 3
    ours = Classifiers(6, 4, settings, steps, torch.device("cpu"))
    start = ours.weight.detach().clone()
    orders = torch.stack([torch.randperm(n) for _ in range(epochs * len(seeds))]).view(epochs, len(seeds), n)
    for epoch in range(epochs):
        for rows in orders[epoch].split(batch, dim=1):
            ours.step(features[rows], labels[rows])

    for index in range(len(seeds)):
        linear = torch.nn.Linear(6, 4)
        with torch.no_grad():
            linear.weight.copy_(start[index])
            linear.bias.zero_()
        optimizer = torch.optim.SGD(linear.parameters(), lr=3.0 * batch / 256, momentum=0.9)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
        for epoch in range(epochs):
            for rows in orders[epoch, index].split(batch):
                optimizer.zero_grad()
                F.cross_entropy(linear(features[rows]), labels[rows]).backward()
                optimizer.step()
                schedule.step()
        torch.testing.assert_close(ours.weight[index], linear.weight, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(ours.bias[index, 0], linear.bias, rtol=1e-4, atol=1e-6)
        expected = (linear(features).argmax(1) == labels).float().mean().item() * 100
        assert ours.accuracy(features, labels)[index] == pytest.approx(expected)
    assert not torch.allclose(ours.weight[0], start[0], atol=1e-3)


def test_one_batch_for_all_seeds_equals_the_same_batch_for_each() -> None:
    settings = protocol(seeds=(0, 1, 2), batch=16)
    features, labels = torch.randn(16, 5), torch.randint(0, 3, (16,))
    shared, separate = (Classifiers(5, 3, settings, 4, torch.device("cpu")) for _ in range(2))
    for _ in range(4):
        shared.step(features, labels)
        separate.step(features.expand(3, -1, -1), labels.expand(3, -1))
    torch.testing.assert_close(shared.weight, separate.weight)


def test_weights_start_small_and_differ_by_seed() -> None:
    classifiers = Classifiers(400, 50, protocol(seeds=(0, 1, 0)), 1, torch.device("cpu"))
    assert classifiers.weight.std().item() == pytest.approx(0.01, rel=0.03)
    assert torch.equal(classifiers.weight[0], classifiers.weight[2])
    assert not torch.equal(classifiers.weight[0], classifiers.weight[1])
    assert not classifiers.bias.any()


def test_summary_reports_the_last_epoch_and_the_best_beside_it() -> None:
    values, seeds = summary([np.array([10.0, 60.0]), np.array([50.0, 20.0]), np.array([40.0, 30.0])], (7, 8))
    assert values == {"top1": 35.0, "best_top1": 55.0, "top1_sd": pytest.approx(50**0.5)}
    assert seeds == [{"seed": 7, "top1": 40.0, "best_top1": 50.0}, {"seed": 8, "top1": 30.0, "best_top1": 60.0}]


def test_one_seed_has_no_standard_deviation() -> None:
    assert "top1_sd" not in summary([np.array([10.0])], (0,))[0]
