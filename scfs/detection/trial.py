"""One trial of a detector: the inputs of its training and its test, and its result."""

import scfs.detection.compat  # isort: skip  # noqa: F401

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode

from scfs.config.detection import Detection
from scfs.config.identity import STAGE_VERSIONS, identity
from scfs.data.opening import DetectionFiles, open_detection_split
from scfs.detection.data import DetectionSplit, read_split
from scfs.detection.metrics import Scores
from scfs.detection.recipes import build_config
from scfs.detection.weights import Converted, read_converted
from scfs.errors import ScfsError


@dataclass(frozen=True)
class Trial:
    """A trial whose inputs are there and fit each other."""

    protocol: Detection
    part: str
    """Name of the trial, one of the protocol's parts."""
    run: str
    weights: Converted
    """Origin of the encoder that it starts from."""
    opened: dict[str, DetectionFiles]
    """Splits by name."""
    train: DetectionSplit
    test: DetectionSplit
    cfg: CfgNode
    """Detectron2's configuration for a single process."""
    threads: int
    """Torch threads."""

    @property
    def seed(self) -> int:
        """The protocol's seed, plus the number of the trial."""
        return self.protocol.seed + self.protocol.parts.index(self.part)

    @property
    def identity(self) -> str:
        """Identity of the training; the number of trials, and what figures show, are no part of it."""
        parameters = {
            "protocol": self.protocol.model_dump(mode="json", exclude={"trials", "seed", "figure_images"}),
            "seed": self.seed,
            "torch_threads": self.threads,
            "device": self.cfg.MODEL.DEVICE,
            "detectron2": hashlib.sha256(self.cfg.dump().encode()).hexdigest(),
        }
        splits = {name: (split.images.digest, split.digest) for name, split in self.opened.items()}
        return identity("detect", parameters, {"weights": self.weights.weights_sha256, "splits": splits})

    def record(self, scores: Scores) -> dict[str, Any]:
        """Make the result."""
        solver = self.cfg.SOLVER
        splits = {
            name: {"images": len(split.images), "digest": split.images.digest, "annotations": split.digest}
            for name, split in self.opened.items()
        }
        return {
            "run": self.run,
            "evaluation": self.protocol.kind,
            "part": self.part,
            "seed": self.seed,
            "values": scores.values,
            "protocol": self.protocol.model_dump(mode="json"),
            "dataset": {"name": self.protocol.dataset, "splits": splits},
            "weights": {"sha256": self.weights.weights_sha256, "identity": self.weights.identity},
            "stage_version": STAGE_VERSIONS["detect"],
            "torch_threads": self.threads,
            "resolved": {  # the recipe's numbers with the protocol's own in place of some
                "backbone": self.weights.architecture,
                "iterations": solver.MAX_ITER,
                "images_per_batch": solver.IMS_PER_BATCH,
                "lr": solver.BASE_LR,
                "steps": list(solver.STEPS),
                "warmup_iterations": solver.WARMUP_ITERS,
                "weight_decay": solver.WEIGHT_DECAY,
                "short_sides": list(self.cfg.INPUT.MIN_SIZE_TRAIN),
                "test_short_side": self.cfg.INPUT.MIN_SIZE_TEST,
                "small_machine": self.protocol.small_machine is not None,
            },
            "per_class": scores.per_class,
        }


def open_trial(
    protocol: Detection,
    part: str,
    run: str,
    converted: Path,
    manifest: Path,
    device: torch.device,
    *,
    threads: int,
    processes: int = 1,
) -> Trial:
    """Read the splits and the origin of the weights, and resolve the recipe.

    Raises:
        ScfsError: no such trial; weights, data or recipe cannot be used, or do not fit each other or the processes.
    """
    if part not in protocol.parts:
        raise ScfsError(f"detection: part {part!r}: not among {list(protocol.parts)}")
    _, weights = read_converted(converted)
    opened = {name: open_detection_split(manifest, name) for name in protocol.splits}
    masks = protocol.benchmark == "coco"
    train, test = (read_split(opened[name], masks) for name in (protocol.train, protocol.test))
    if train.classes != test.classes:
        different = sorted(set(train.classes) ^ set(test.classes)) or "their order"
        raise ScfsError(f"{train.source} and {test.source} must have the same classes; they differ in {different}")
    resolve = (protocol, weights.architecture, len(train.classes), device.type)
    build_config(*resolve, processes)  # only to see that the batch divides; a SyncBN here would change the identity
    cfg = build_config(*resolve)
    cfg.INPUT.MASK_FORMAT = train.mask_format
    return Trial(protocol, part, run, weights, opened, train, test, cfg, threads)
