"""Linear probing as the paper does it: random-resized-crop and flip, features anew in every epoch.

The encoder is frozen, so the classifiers of all seeds share each epoch's features: they see the same images in the same
order and differ by their initial weights. Crops are resized by the project's bicubic operation (scfs.views.images);
torchvision's RandomResizedCrop, which the authors use, is bilinear by default.
"""

import math
from functools import partial

import numpy as np
import torch

from scfs.config.evaluation import Linear
from scfs.config.pretrain import Views
from scfs.data.manifest import ImageSet
from scfs.evaluation.features import BLOCK, FEATURE, FrozenEncoder, clean_view, extract, split_rows, stream
from scfs.evaluation.measurement import Measurement, open_labelled
from scfs.evaluation.probe import Classifiers, summary
from scfs.views.images import Pixels, crop_resize
from scfs.views.philox import permutation
from scfs.views.table import augmentation_table


def _crops(seed: int, epoch: int, images: ImageSet, scale: tuple[float, float]) -> np.ndarray:
    """Crop box and flip of every image in an epoch, (n,) rows of scfs.views.table.ROW: its first global view's."""
    views = Views(global_scale=scale, local_number=0)
    sizes = np.stack([images.heights, images.widths], axis=1)
    parts = split_rows(np.arange(len(images)), BLOCK)  # drawing takes far more memory than what is drawn
    return np.concatenate([augmentation_table(seed, epoch, rows, sizes[rows], views)[:, 0] for rows in parts])


def _crop_and_flip(image: Pixels, row: int, crops: np.ndarray, size: int) -> Pixels:
    """Crop, resize and perhaps mirror as the image's row of `crops` says."""
    drawn = crops[row]
    view = crop_resize(image, (drawn["top"], drawn["left"], drawn["height"], drawn["width"]), size)
    return view[:, ::-1] if drawn["flip"] else view


def measure(protocol: Linear, encoder: FrozenEncoder) -> Measurement:
    """Fit a classifier for each seed on augmented views; test on the clean view after every epoch.

    Values: `top1` (last epoch, mean over seeds), `top1_sd`, `best_top1`; see `probe.summary`.
    """
    encoder = encoder.joining(protocol.cls_blocks)
    train, test = open_labelled(protocol)
    labels, test_labels = (torch.from_numpy(split.require_labels()) for split in (train, test))
    test_features = extract(encoder, test, [FEATURE], clean_view(protocol))[FEATURE]
    steps = protocol.epochs * math.ceil(len(train) / protocol.batch)
    classifiers = Classifiers(test_features.shape[1], len(train.classes), protocol, steps, encoder.device)
    seed = protocol.seeds[0]
    top1: list[np.ndarray] = []
    for epoch in range(protocol.epochs):
        show = partial(_crop_and_flip, crops=_crops(seed, epoch, train, protocol.scale), size=protocol.crop)
        order = permutation(seed, epoch, len(train))
        what = f"linear probe, epoch {epoch + 1}/{protocol.epochs},"
        blocks = stream(encoder, train, [FEATURE], show, rows=order, block=protocol.batch, what=what)
        for rows, block in zip(split_rows(order, protocol.batch), blocks, strict=True):
            classifiers.step(block[FEATURE], labels[rows].to(encoder.device))
        top1.append(classifiers.accuracy(test_features, test_labels))
    values, seeds = summary(top1, protocol.seeds)
    return Measurement(values=values, splits=(train, test), details={"seeds": seeds})
