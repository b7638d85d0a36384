"""How well features tell the classes of one's own images apart: `scfs evaluate WEIGHTS --train DIR --test DIR`.

k-NN and linear classifiers on features that are computed once, beside random weights, public weights at hand, and the
share of the most frequent class: what a number is worth shows only beside these.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from scfs import paths
from scfs.config.evaluation import Knn, LinearCached
from scfs.data.image_set import ImageSet
from scfs.data.sources.folders import labelled_folders
from scfs.errors import ScfsError
from scfs.evaluation.during_training import HELD_OUT, held_out
from scfs.evaluation.encoder import Encoder, load
from scfs.evaluation.features import FEATURE, FrozenEncoder, clean_view, extract
from scfs.evaluation.knn import nearest, scores_by_vote, vote_weights
from scfs.evaluation.linear import fit_cached
from scfs.io.atomic import write_text
from scfs.io.progress import log
from scfs.io.results import sha256_of, write_result
from scfs.io.templates import filled_in
from scfs.model.backbones.registry import build_backbone
from scfs.runtime import collectives
from scfs.runtime.device import resolve_device
from scfs.weights.catalogue import catalogue, find_weights

PAGE = Path(__file__).with_name("own_labels.html.j2")
NEIGHBOURS = 20
SHOWN_CLASSES = 40
"""Classes of which the page shows a confusion matrix at most."""


class Measured(NamedTuple):
    """What was measured of one encoder."""

    values: dict[str, float]
    """knn, and linear: mean over the seeds of the classifiers, and linear_sd; in percent."""
    predicted: np.ndarray
    """Class of each test image by k-NN, (m,)."""


def evaluate(
    weights: str | Path,
    train: str | Path,
    test: str | Path | None = None,
    out: str | Path | None = None,
    *,
    size: int | None = None,
    encoder: str = "teacher",
    backbone: str | None = None,
    threads: int = 1,
    device: str = "auto",
    workers: int = 0,
) -> dict[str, Any]:
    """Evaluate weights on labelled folders: `scfs.evaluate` from Python.

    Args:
        weights: see `scfs.load`, as are `encoder` and `backbone`.
        train: images whose labels are given, one sub-folder per class.
        test: images that are classified; None: a tenth of `train`, by the hash of their paths.
        out: OUT.json and the page OUT.html are written; None: nothing is.
        size: side of the images in pixels; None: that of the training.
        threads: torch's threads.
        device: auto, cpu or cuda.
        workers: processes that decode images.

    Returns:
        The record that OUT.json holds: `rows` by encoder with `knn` and `linear` in percent, `majority`, `confusion`.

    Raises:
        ScfsError: weights, images or labels do not allow it; nothing is written.
    """
    torch.set_num_threads(threads)
    model, where = load(weights, encoder=encoder, backbone=backbone), collectives.local_device(resolve_device(device))
    size = size or model.size
    with collectives.process_group(where):
        splits = _splits(Path(train), None if test is None else Path(test))
        names, models = zip(*_beside(model), strict=True)
        measured = [_measure(one, splits, size, where, workers) for one in models]
        record = _record(splits, list(names), measured)
        record |= {
            "weights": {"name": f"{weights}", "sha256": sha256_of(find_weights(f"{weights}")[0]), "encoder": encoder}
        }
        record |= {"backbone": model.backbone.name, "size": size, "k": NEIGHBOURS, "torch_threads": threads}
        if out is not None and collectives.is_first():
            page = filled_in(PAGE, **record, shown=len(record["classes"]) <= SHOWN_CLASSES)
            write_result(Path(f"{out}.json"), record, {"device": str(where), "workers": workers})
            write_text(Path(f"{out}.html"), page)
            log(f"{out}.html, .json: written")
    return record


def _splits(train: Path, test: Path | None) -> tuple[ImageSet, ImageSet]:
    if test is not None:
        return labelled_folders(train, test)
    whole, _ = labelled_folders(train, train)
    held = held_out(whole)
    if not (held.any() and (~held).any()):
        raise ScfsError(f"{train}: {len(whole)} images, too few to hold a tenth out: give --test")
    log(f"{train}: {held.sum()} of {len(whole)} images, one of {HELD_OUT} by their paths, are held out as the test")
    return whole.subset(np.flatnonzero(~held)), replace(whole.subset(np.flatnonzero(held)), split="test")


def _beside(model: Encoder) -> Iterator[tuple[str, Encoder]]:
    """Yield the encoder, random weights of its architecture, and public ones that have been fetched."""
    yield model.source, model
    name = model.backbone.name
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield "random weights", Encoder(build_backbone(name), model.size, "random weights")
    for entry, public in catalogue().items():
        if public.backbone == name and (paths.downloads() / public.file).is_file():
            yield f"{entry} ({public.citation})", load(entry)


def _measure(
    model: Encoder, splits: tuple[ImageSet, ImageSet], size: int, device: torch.device, workers: int
) -> Measured:
    train, test = splits
    views = {"dataset": "own", "resize": size, "crop": size}
    protocol = Knn(kind="knn", k=(min(NEIGHBOURS, len(train)),), report_k=min(NEIGHBOURS, len(train)), **views)
    frozen, show = FrozenEncoder(model.backbone.to(device), device, workers), clean_view(protocol)
    features, queries = (extract(frozen, split, [FEATURE], show)[FEATURE] for split in splits)
    similarities, rows = nearest(features, queries, protocol.report_k, device)
    labels, truth = (torch.from_numpy(split.require_labels()) for split in splits)
    votes = scores_by_vote(vote_weights(similarities, protocol.temperature), labels[rows], len(train.classes))
    predicted = votes.argmax(1)
    linear = LinearCached(kind="linear_cached", epochs=50, lr=0.1, **views)
    values = fit_cached(linear, device, (train, features), (test, queries))[0]
    knn = 100.0 * float((predicted == truth).double().mean())
    return Measured({"knn": knn, "linear": values["top1"], "linear_sd": values.get("top1_sd", 0.0)}, predicted.numpy())


def _record(splits: tuple[ImageSet, ImageSet], names: list[str], measured: list[Measured]) -> dict[str, Any]:
    """Make what is written of the measurements; the first is that of the weights in question."""
    train, test = splits
    labels, truth = (split.require_labels() for split in splits)
    classes = len(train.classes)
    confusion = np.bincount(truth * classes + measured[0].predicted, minlength=classes**2).reshape(classes, classes)
    majority = 100.0 * float((truth == np.bincount(labels, minlength=classes).argmax()).mean())
    return {
        "rows": [{"name": name, **one.values} for name, one in zip(names, measured, strict=True)],
        "majority": majority,
        "standard_error": float(np.sqrt(measured[0].values["knn"] * (100 - measured[0].values["knn"]) / len(test))),
        "splits": {
            split.split: {"folder": f"{split.root}", "images": len(split), "digest": split.digest} for split in splits
        },
        "classes": list(train.classes),
        "confusion": confusion.tolist(),
    }
