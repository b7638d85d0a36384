"""Linear probing, as the paper does it (`linear`) and on features that are extracted once (`linear_cached`).

The paper's views are random-resized-crops and flips, with features anew in every epoch. The encoder is frozen, so the
classifiers of all seeds share each epoch's features: they see the same images in the same order and differ by their
initial weights. Several processes take the batches in turn to compute features, which cost nearly all of the time, and
every classifier trains on all of them, batch by batch.

Features that are extracted once are quick, and NOT the paper's linear probing. Several processes share the extraction,
after which each holds all features, and the rates of the grid.
"""

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scfs.config.evaluation import Linear, LinearCached, Probe
from scfs.data.manifest import ImageSet
from scfs.evaluation.features import BLOCK, FEATURE, FrozenEncoder, clean_view, extract, split_rows, stream
from scfs.evaluation.probe import LrGrid
from scfs.evaluation.result import EvaluationResult, evaluates, open_labelled
from scfs.io.progress import track
from scfs.runtime.philox import permutation
from scfs.views.crops import crop_and_flip, crops
from scfs.views.images import Pixels


def _crops(seed: int, epoch: int, images: ImageSet, scale: tuple[float, float]) -> np.ndarray:
    """Crop box and flip of every image in an epoch, (n,) rows of scfs.views.augmentation.PARAMETERS."""
    sizes = np.stack([images.heights, images.widths], axis=1)
    parts = split_rows(np.arange(len(images)), BLOCK)  # drawing takes far more memory than what is drawn
    return np.concatenate([crops(seed, epoch, rows, sizes[rows], scale) for rows in parts])


def _crop_and_flip(image: Pixels, row: int, crops: np.ndarray, size: int) -> Pixels:
    """Show an image as its row of `crops` says."""
    return crop_and_flip(image, crops[row], size)


def _clean_features(protocol: Probe, encoder: FrozenEncoder, images: ImageSet) -> Tensor:
    return extract(encoder, images, [FEATURE], clean_view(protocol))[FEATURE]


@evaluates(Linear)
def evaluate(protocol: Linear, encoder: FrozenEncoder) -> EvaluationResult:
    """Fit a classifier for each seed on augmented views; test on the clean view after every epoch.

    Values: `top1` (last epoch, mean over seeds), `top1_sd`, `best_top1`; see `probe.summary`. With several rates
    (`lr_sweep`) those of the rate that the validation images choose, of which the clean view is classified.
    """
    encoder = encoder.joining(protocol.cls_blocks)
    train, test = open_labelled(protocol)
    labels, test_labels = (torch.from_numpy(split.require_labels()) for split in (train, test))
    test_features = _clean_features(protocol, encoder, test)
    grid = LrGrid(protocol, train, test_features.shape[1], encoder.device)
    seed = protocol.seeds[0]
    for epoch in range(protocol.epochs):
        show = partial(_crop_and_flip, crops=_crops(seed, epoch, train, protocol.scale), size=protocol.crop)
        order = permutation(seed, epoch, len(train))
        what = f"linear probe, epoch {epoch + 1}/{protocol.epochs},"
        batches = split_rows(order, protocol.batch)
        features = stream(encoder, train, [FEATURE], show, batches, what)
        for rows, block in zip(batches, features, strict=True):
            grid.step(block[FEATURE], labels[rows].to(encoder.device), torch.from_numpy(rows))
        grid.test(test_features, test_labels)
    values, details = grid.result(lambda rows: _clean_features(protocol, encoder, train.subset(rows)), labels)
    return EvaluationResult(values=values, splits=(train, test), details=details)


@evaluates(LinearCached)
def evaluate_cached(protocol: LinearCached, encoder: FrozenEncoder) -> EvaluationResult:
    """Fit a classifier for each seed, with its own initial weights and order, on the clean view's raw features.

    Values: as `evaluate`'s.
    """
    encoder = encoder.joining(protocol.cls_blocks)
    train, test = ((split, _clean_features(protocol, encoder, split)) for split in open_labelled(protocol))
    values, details = fit_cached(protocol, encoder.device, train, test)
    return EvaluationResult(values=values, splits=(train[0], test[0]), details=details)


def fit_cached(
    protocol: LinearCached, device: torch.device, of_train: tuple[ImageSet, Tensor], of_test: tuple[ImageSet, Tensor]
) -> tuple[dict[str, float], dict[str, Any]]:
    """Fit classifiers on images with their features (n, C), and test them; see `LrGrid.result` for what it returns."""
    (train, features), (test, test_features) = of_train, of_test
    labels, test_labels = (torch.from_numpy(split.require_labels()) for split in (train, test))
    grid = LrGrid(protocol, train, features.shape[1], device)
    for epoch in track(range(protocol.epochs), f"linear probe on {train.name}/{train.split}", unit="epochs"):
        orders = torch.stack(
            [torch.from_numpy(permutation(seed, epoch, len(train))) for seed in protocol.seeds]
        )  # S, n
        for rows in orders.split(protocol.batch, dim=1):
            grid.step(features[rows].to(device), labels[rows].to(device), rows)
        grid.test(test_features, test_labels)
    return grid.result(lambda rows: features[rows], labels)
