"""The k-NN vote on given features: ours in blocks, as they would come from the encoder, against reference_knn.py."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import reference_knn
from benchmarks.measure import Pair
from scfs.errors import ScfsError
from scfs.evaluation.features import BLOCK
from scfs.evaluation.knn import Neighbours, lengths, vote

KS = (10, 20, 30)
TEMPERATURE = 0.07
CLASSES = 100


def inputs(train: int, test: int, channels: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features around the centres of their classes, and their classes: of training and of test images."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(CLASSES, channels, generator=generator)
    made: list[Tensor] = []
    for number in (train, test):
        labels = torch.randint(0, CLASSES, (number,), generator=generator)
        features = torch.randn(number, channels, generator=generator).mul_(4).add_(centres[labels])
        made += [features, labels]
    return made[0], made[1], made[2], made[3]


def ours(train: Tensor, train_labels: Tensor, test: Tensor, labels: Tensor) -> dict[int, tuple[float, float]]:
    """Accuracies by k."""
    neighbours = Neighbours(F.normalize(test, dim=1), max(KS))
    for features, rows in zip(train.split(BLOCK), torch.arange(len(train)).split(BLOCK), strict=True):
        neighbours.add(features, rows, lengths(features))
    similarities, rows = neighbours.nearest()
    return vote(similarities, train_labels[rows], labels, KS, TEMPERATURE, CLASSES)


def pair(short: bool, device: torch.device) -> Pair:
    """100,000 features of 2048 numbers and 1000 queries; short: a tenth of the features.

    Raises:
        ScfsError: on a GPU, where the reference is not written for it.
    """
    if device.type != "cpu":
        raise ScfsError("knn: compared on a CPU only; name the other comparisons")
    given = inputs(10_000 if short else 100_000, 1000, 2048)
    return Pair(
        partial(ours, *given),
        partial(reference_knn.accuracies, *given, ks=KS, temperature=TEMPERATURE, classes=CLASSES),
    )
