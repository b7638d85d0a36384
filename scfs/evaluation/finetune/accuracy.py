"""Accuracies of a fine-tuned network."""

import numpy as np
import torch
from torch import Tensor

from scfs.config.finetune import FineTune
from scfs.data.image_set import ImageSet
from scfs.evaluation.features import FEATURE, FrozenEncoder, clean_view, extract
from scfs.evaluation.ranks import ranks_of_true_class
from scfs.model.methods.supervised import ClassifyingEncoder

CLASSIFIED = 4096
"""Features that are classified at a time."""


@torch.no_grad()
def evaluate(
    model: ClassifyingEncoder, protocol: FineTune, images: ImageSet, device: torch.device, workers: int
) -> dict[str, float]:
    """Compute accuracies on the clean view of labelled images, in float32; puts the model into eval mode.

    On CUDA: fixed algorithms and full float32, as for all evaluations.
    """
    encoder = FrozenEncoder(model.eval().backbone, device, workers)
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        features = extract(encoder, images, [FEATURE], clean_view(protocol))[FEATURE]
        labels = torch.from_numpy(images.require_labels())
        ranks = [
            ranks_of_true_class(model.classifier(part.to(device)), truth.to(device)).cpu()
            for part, truth in zip(features.split(CLASSIFIED), labels.split(CLASSIFIED), strict=True)
        ]
    return accuracies(torch.cat(ranks), labels, len(images.classes))


def accuracies(ranks: Tensor, labels: Tensor, classes: int) -> dict[str, float]:
    """Return percentages by name: `top1`, `top5` (top K of K < 5 classes), and the mean of the classes' top-1.

    Args:
        ranks: of the true class from 0, (n,).
        labels: (n,), every class among them.
        classes: K.
    """
    hits = (ranks == 0).double()
    of_classes = np.bincount(labels, weights=hits, minlength=classes) / np.bincount(labels, minlength=classes)
    return {
        "top1": 100.0 * hits.mean().item(),
        "top5": 100.0 * (ranks < min(5, classes)).double().mean().item(),
        "mean_per_class": 100.0 * float(of_classes.mean()),
    }
