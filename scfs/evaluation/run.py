"""Apply one evaluation protocol to a file of weights and write its result."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scfs.atomic import write_with
from scfs.config.evaluation import Evaluation
from scfs.config.identity import STAGE_VERSIONS
from scfs.device import resolve_device
from scfs.evaluation import attention, class_probabilities, knn, layers, linear, linear_cached
from scfs.evaluation.features import FrozenEncoder
from scfs.evaluation.measurement import Measurement
from scfs.results import sha256_of, write_result
from scfs.weights.store import Weights, load_backbone, load_classifier

KINDS: dict[str, Callable[[Any, FrozenEncoder], Measurement]] = {
    "knn": knn.measure,
    "layers": layers.measure,
    "linear_cached": linear_cached.measure,
    "linear": linear.measure,
    "attention": attention.measure,
    "class_probabilities": class_probabilities.measure,
}
"""What measures each kind of protocol (scfs.config.evaluation)."""


def evaluate(
    protocol: Evaluation, weights: Path, run: str, out: Path, *, threads: int, device: str = "auto", workers: int = 0
) -> None:
    """Measure and write `out` (.json), its `.run.json`, and an `.npz` beside them where a figure needs arrays.

    Args:
        protocol: what to measure, and how.
        weights: file written by `scfs.weights.store.save_weights`.
        run: name of the run that the weights come from.
        out: path of the result; repeating the evaluation gives the same bytes.
        threads: threads of torch; sums depend on it, so it is part of the result.
        device: "auto" (the GPU if there is one), "cpu" or "cuda".
        workers: processes that decode images; 0 decodes in this one. The result does not depend on it.

    Raises:
        ScfsError: weights, data or protocol do not allow it; nothing is written.
    """
    torch.set_num_threads(threads)
    where = resolve_device(device)
    backbone, source = load_backbone(weights, protocol.weights)
    classifier = load_classifier(weights, protocol.weights)
    encoder = FrozenEncoder(
        backbone.to(where), where, workers, classifier and classifier.to(where), tuple(source.classes)
    )
    # On CUDA: fixed algorithms and full float32, so that a repetition gives the same bytes.
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        measurement = KINDS[protocol.kind](protocol, encoder)
    if measurement.arrays:
        write_with(out.with_suffix(".npz"), lambda file: np.savez(file, **measurement.arrays))  # type: ignore[arg-type]
    record = {"run": run, "torch_threads": threads, **_record(protocol, measurement, weights, source)}
    write_result(out, record, {"device": str(where), "workers": workers})


def _record(protocol: Evaluation, measurement: Measurement, weights: Path, source: Weights) -> dict[str, Any]:
    splits = {images.split: {"images": len(images), "digest": images.digest} for images in measurement.splits}
    return {
        "evaluation": protocol.kind,
        "values": measurement.values,
        "protocol": protocol.model_dump(mode="json"),
        "dataset": {"name": protocol.dataset, "splits": splits},
        "weights": {"sha256": sha256_of(weights), "identity": source.identity},
        "settings": source.settings,
        "stage_version": STAGE_VERSIONS["evaluate"],
        **measurement.details,
    }
