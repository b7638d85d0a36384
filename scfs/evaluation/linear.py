"""Linear probing as the paper does it: random-resized-crop and flip, features anew in every epoch.

The encoder is frozen, so the classifiers of all seeds share each epoch's features: they see the same images in the same
order and differ by their initial weights. Several processes take the batches in turn to compute features, which cost
nearly all of the time, and every classifier trains on all of them, batch by batch.
"""

import math
from functools import partial

import numpy as np
import torch
from torch import Tensor

from scfs.config.evaluation import Linear
from scfs.data.manifest import ImageSet
from scfs.evaluation.features import BLOCK, FEATURE, FrozenEncoder, clean_view, extract, split_rows, stream
from scfs.evaluation.measurement import Measurement, open_labelled
from scfs.evaluation.probe import Sweep
from scfs.runtime.philox import permutation
from scfs.views.crops import crop_and_flip, crops
from scfs.views.images import Pixels


def _crops(seed: int, epoch: int, images: ImageSet, scale: tuple[float, float]) -> np.ndarray:
    """Crop box and flip of every image in an epoch, (n,) rows of scfs.views.table.ROW."""
    sizes = np.stack([images.heights, images.widths], axis=1)
    parts = split_rows(np.arange(len(images)), BLOCK)  # drawing takes far more memory than what is drawn
    return np.concatenate([crops(seed, epoch, rows, sizes[rows], scale) for rows in parts])


def _crop_and_flip(image: Pixels, row: int, crops: np.ndarray, size: int) -> Pixels:
    """Show an image as its row of `crops` says."""
    return crop_and_flip(image, crops[row], size)


def _clean_features(protocol: Linear, encoder: FrozenEncoder, images: ImageSet, rows: np.ndarray) -> Tensor:
    return extract(encoder, images.subset(rows), [FEATURE], clean_view(protocol))[FEATURE]


def measure(protocol: Linear, encoder: FrozenEncoder) -> Measurement:
    """Fit a classifier for each seed on augmented views; test on the clean view after every epoch.

    Values: `top1` (last epoch, mean over seeds), `top1_sd`, `best_top1`; see `probe.summary`. With a sweep of rates,
    those of the rate that held-out images choose, of which the clean view is classified.
    """
    encoder = encoder.joining(protocol.cls_blocks)
    train, test = open_labelled(protocol)
    labels, test_labels = (torch.from_numpy(split.require_labels()) for split in (train, test))
    test_features = _clean_features(protocol, encoder, test, np.arange(len(test)))
    steps = protocol.epochs * math.ceil(len(train) / protocol.batch)
    sweep = Sweep(protocol, train, test_features.shape[1], steps, encoder.device)
    seed = protocol.seeds[0]
    for epoch in range(protocol.epochs):
        show = partial(_crop_and_flip, crops=_crops(seed, epoch, train, protocol.scale), size=protocol.crop)
        order = permutation(seed, epoch, len(train))
        what = f"linear probe, epoch {epoch + 1}/{protocol.epochs},"
        batches = split_rows(order, protocol.batch)
        features = stream(encoder, train, [FEATURE], show, batches, what)
        for rows, block in zip(batches, features, strict=True):
            sweep.step(block[FEATURE], labels[rows].to(encoder.device), torch.from_numpy(rows))
        sweep.test(test_features, test_labels)
    values, details = sweep.result(partial(_clean_features, protocol, encoder, train), labels)
    return Measurement(values=values, splits=(train, test), details=details)
