"""Apply one evaluation protocol to a file of weights and write its result.

Several processes share the images; their number is no part of the result, which has the same bytes.
"""

from pathlib import Path

import torch

from scfs import paths
from scfs.config.identity import identity
from scfs.config.protocol import Evaluation
from scfs.evaluation import attention, class_probabilities, knn, linear, object_search  # noqa: F401  # they add themselves
from scfs.evaluation.features import FrozenEncoder
from scfs.evaluation.result import EVALUATE, result_record
from scfs.io.atomic import write_arrays
from scfs.io.progress import log
from scfs.io.results import sha256_of, write_result
from scfs.runtime import collectives
from scfs.runtime.cpu import keep_freed_memory
from scfs.runtime.device import resolve_device
from scfs.weights.store import load_backbone, load_classifier


def evaluate(
    protocol: Evaluation, weights: Path, run: str, out: Path, *, threads: int, device: str = "auto", workers: int = 0
) -> None:
    """Evaluate and write `out` (.json), its `.run.json`, and an `.npz` beside them where a figure needs arrays.

    Args:
        protocol: the evaluation and its settings.
        weights: file written by `scfs.weights.store.save_weights`.
        run: name of the run that the weights come from.
        out: path of the result; repeating the evaluation gives the same bytes.
        threads: threads of torch; sums depend on it, so it is part of the result.
        device: "auto" (the GPU if there is one), "cpu" or "cuda".
        workers: processes that decode images; 0 decodes in this one. The result does not depend on it.

    Raises:
        ScfsError: weights, data or protocol do not allow it, or differ between the processes; nothing is written.
    """
    torch.set_num_threads(threads)
    keep_freed_memory()
    where = collectives.local_device(resolve_device(device))
    with collectives.process_group(where) as world:
        backbone, source = load_backbone(weights, protocol.weights)
        _check_same(protocol, weights, threads, where)
        if world.size > 1:
            log(f"{run}, {protocol.kind}: {world.size} processes share the images; progress is the first one's")
        classifier = load_classifier(weights, protocol.weights)
        encoder = FrozenEncoder(
            backbone.to(where), where, workers, classifier and classifier.to(where), tuple(source.classes)
        )
        # On CUDA: fixed algorithms and full float32, so that a repetition gives the same bytes.
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            result = EVALUATE[protocol.kind](protocol, encoder)
        if not collectives.is_first():
            return
        if arrays := result.arrays:
            write_arrays(out.with_suffix(".npz"), arrays)
        record = result_record(protocol, run, result.splits, weights, source, threads)
        record |= {"values": result.values, **result.details}
        write_result(out, record, {"device": str(where), "workers": workers, "processes": world.size})


def _check_same(protocol: Evaluation, weights: Path, threads: int, device: torch.device) -> None:
    """Hold all processes to one thing to do: they would wait for each other in different places."""
    manifest = paths.manifest(protocol.dataset)
    parameters = {"protocol": protocol, "torch_threads": threads, "device": device.type}
    inputs = {"weights": sha256_of(weights), "manifest": sha256_of(manifest) if manifest.is_file() else ""}
    own = identity("evaluate", parameters, inputs)
    collectives.check_same("identity of the evaluation (protocol, weights, manifest, threads, device)", own)
