"""Probes of a pre-training while it runs: k-NN, and a linear classifier where there are enough labels.

Labels are held out by the hash of an image's path, so that every start holds out the same. In the folder that is
trained on, the network sees these images without their labels: the numbers are in-sample.
"""

import copy
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from scfs.config.data import ImageFolders
from scfs.config.evaluation import Knn, LinearCached
from scfs.data.image_set import ImageSet
from scfs.data.sources.folders import image_folder
from scfs.errors import ScfsError
from scfs.evaluation.features import FEATURE, FrozenEncoder, clean_view, evenly_spaced, extract
from scfs.evaluation.knn import nearest, vote
from scfs.evaluation.linear import fit_cached
from scfs.io.progress import log
from scfs.model.backbones.base import Network

HELD_OUT = 10
"""One of so many images is classified, by the labels of the others."""
MOST = 2000
"""Labelled images that are used of more, and that are classified of more, at even distances."""
ENOUGH = 20
"""Labelled images of a class, in the mean, from which there is a linear probe."""


@dataclass(frozen=True)
class LabelledProbe:
    """A measurement of a backbone: `train` has the labels by which `test` is classified."""

    train: ImageSet
    test: ImageSet
    size: int
    """Side of the network's input in pixels."""
    mark: str
    """Text beside the numbers: `in-sample` if images are classified that are trained on."""

    def __call__(self, backbone: Network, device: torch.device, workers: int) -> dict[str, float]:
        """Compute the accuracies in percent, `knn` and, with enough labels, `linear`; on all processes together.

        The backbone is copied, and no random stream but those made here is used: what is trained stays the same.
        """
        views = {"dataset": "probe", "resize": round(self.size * 256 / 224), "crop": self.size}
        protocol, k = Knn(kind="knn", **views), min(20, len(self.train))
        exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
        with torch.random.fork_rng(devices=[]), exact:
            frozen = copy.deepcopy(backbone).float().eval().requires_grad_(False)
            encoder, show = FrozenEncoder(frozen, device, workers), clean_view(protocol)
            train, test = (extract(encoder, split, [FEATURE], show)[FEATURE] for split in (self.train, self.test))
            similarities, rows = nearest(train, test, k, device)
            labels, truth = (torch.from_numpy(split.require_labels()) for split in (self.train, self.test))
            classes = len(self.train.classes)
            votes = vote(similarities, labels[rows], truth, [k], protocol.temperature, classes)
            values = {"knn": votes[k][0]}
            if len(train) >= ENOUGH * classes:
                linear = LinearCached(kind="linear_cached", epochs=50, lr=0.1, seeds=(0,), **views)
                values["linear"] = fit_cached(linear, device, (self.train, train), (self.test, test))[0]["top1"]
        return values


def held_out(images: ImageSet) -> np.ndarray:
    """Choose about one of `HELD_OUT` images by the hash of its path: (n,) bool, the same at every start."""
    digests = (hashlib.sha256(path.encode()).digest() for path in images.paths)
    return np.array([int.from_bytes(digest[:8], "big") % HELD_OUT == 0 for digest in digests])


def prepare_probe(
    images: ImageSet, taken: ImageFolders, size: int, folder: Path | None = None, holdout: bool = False
) -> tuple[ImageSet, LabelledProbe | None]:
    """Choose what a training on `images` is probed on.

    Args:
        images: what is trained on.
        taken: which images of `folder` are taken.
        size: side of the network's input in pixels.
        folder: labelled images; None: those that are trained on, if they have two classes and enough images.
        holdout: leave those that are classified out of the training.

    Returns:
        The images to train on, and the probe; None where there is none.

    Raises:
        ScfsError: the folder has no labels, or a single class, or too few images.
    """
    labelled = images if folder is None else image_folder(folder, taken)
    held = held_out(labelled)
    if len(labelled.classes) < 2 or held.sum() < HELD_OUT:
        if folder is None and not holdout:
            return images, None
        found = f"{len(labelled.classes)} classes and {len(labelled)} images"
        needed = f"class sub-folders, two or more, with about {HELD_OUT**2} images or more"
        raise ScfsError(f"a probe of {labelled.root}, which has {found}: allowed: {needed}")
    train, test = (labelled.subset(np.flatnonzero(mask)) for mask in (~held, held))
    images = train if holdout else images
    if shared := len(set(images.hashes) & set(test.hashes)):
        log(f"probe: {shared} of the {len(test)} images that are classified are trained on: in-sample")
    train, test = (split.subset(evenly_spaced(split, MOST)) for split in (train, test))
    return images, LabelledProbe(train, test, size, ", in-sample" if shared else "")
