"""Linear probing on features extracted once: quick, and NOT the paper's linear probing, which augments (linear.py).

Several processes share the extraction, after which each holds all features, and the rates of a sweep.
"""

import math

import torch

from scfs.config.evaluation import LinearCached
from scfs.evaluation.features import FEATURE, FrozenEncoder, clean_view, extract
from scfs.evaluation.measurement import Measurement, open_labelled
from scfs.evaluation.probe import Sweep
from scfs.io.progress import track
from scfs.runtime.philox import permutation


def measure(protocol: LinearCached, encoder: FrozenEncoder) -> Measurement:
    """Fit a classifier for each seed, with its own initial weights and order, on the clean view's raw features.

    Values: `top1` (last epoch, mean over seeds), `top1_sd`, `best_top1`; see `probe.summary`. With a sweep
    of rates, those of the rate that held-out images choose.
    """
    encoder = encoder.joining(protocol.cls_blocks)
    train, test = open_labelled(protocol)
    features, test_features = (
        extract(encoder, split, [FEATURE], clean_view(protocol))[FEATURE] for split in (train, test)
    )
    labels, test_labels = (torch.from_numpy(split.require_labels()) for split in (train, test))
    steps = protocol.epochs * math.ceil(len(train) / protocol.batch)
    sweep = Sweep(protocol, train, features.shape[1], steps, encoder.device)
    for epoch in track(range(protocol.epochs), f"linear probe on {train.name}/{train.split}", unit="epochs"):
        orders = torch.stack(
            [torch.from_numpy(permutation(seed, epoch, len(train))) for seed in protocol.seeds]
        )  # S, n
        for rows in orders.split(protocol.batch, dim=1):
            sweep.step(features[rows].to(encoder.device), labels[rows].to(encoder.device), rows)
        sweep.test(test_features, test_labels)
    values, details = sweep.result(lambda rows: features[rows], labels)
    return Measurement(values=values, splits=(train, test), details=details)
