"""The authors' k-NN (DINO's), written out again: each k on its own, queries in chunks, all features held."""

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 500
"""Queries at a time: a hundredth of them in the authors' code, so this many of ImageNet's 50,000."""


def knn(
    train: Tensor, train_labels: Tensor, test: Tensor, labels: Tensor, k: int, temperature: float, classes: int
) -> tuple[float, float]:
    """Top-1 and top-5 in percent.

    Args:
        train: unit vectors of the training images, (n, C).
        train_labels: their classes, (n,).
        test: unit vectors of the test images, (m, C).
        labels: their classes, (m,).
        k: neighbours.
        temperature: T; a neighbour of similarity s has the weight exp(s / T).
        classes: number of classes.
    """
    top1 = top5 = total = 0.0
    features = train.t()
    for start in range(0, len(test), CHUNK):
        queries, truth = test[start : start + CHUNK], labels[start : start + CHUNK]
        rows = len(queries)
        similarity = torch.mm(queries, features)
        distances, indices = similarity.topk(k, largest=True, sorted=True)
        candidates = train_labels.view(1, -1).expand(rows, -1)
        neighbours = torch.gather(candidates, 1, indices)
        one_hot = torch.zeros(rows * k, classes).scatter_(1, neighbours.view(-1, 1), 1)
        weights = distances.clone().div_(temperature).exp_()
        votes = torch.sum(one_hot.view(rows, -1, classes) * weights.view(rows, -1, 1), 1)
        _, predictions = votes.sort(1, True)
        correct = predictions.eq(truth.view(-1, 1))
        top1 += correct.narrow(1, 0, 1).sum().item()
        top5 += correct.narrow(1, 0, min(5, k)).sum().item()
        total += rows
    return 100 * top1 / total, 100 * top5 / total


def accuracies(
    train: Tensor,
    train_labels: Tensor,
    test: Tensor,
    labels: Tensor,
    ks: tuple[int, ...],
    temperature: float,
    classes: int,
) -> dict[int, tuple[float, float]]:
    """Return the accuracies for each k, from features of any length."""
    train, test = F.normalize(train, dim=1, p=2), F.normalize(test, dim=1, p=2)
    return {k: knn(train, train_labels, test, labels, k, temperature, classes) for k in ks}
