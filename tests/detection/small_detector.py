"""A trial that takes seconds, and what it leaves. As a program, to be killed:
`small_detector.py MANIFEST WEIGHTS`, with a checkpoint after each step."""

import sys
from pathlib import Path
from typing import Any

import torch

from scfs.config.detection import Detection
from scfs.detection.batches import TrainingBatches
from scfs.detection.stage import detect
from scfs.detection.training import DetectorTraining
from scfs.errors import ScfsError
from scfs.views.workers import prefetch

STEPS = 6
SMALL = {"iterations": STEPS, "short_side": 64, "rpn_batch": 16, "roi_batch": 8, "proposals": 4, "precise_bn": 2}
OUT = Path("results/trial-0.json")


def protocol(recipe: str = "coco_mask_rcnn_fpn_1x", **more: Any) -> Detection:
    values = {"kind": "detection", "dataset": "boxed", "recipe": recipe, "images_per_batch": 2, "small_machine": SMALL}
    return Detection.model_validate({**values, "figure_images": 2, **more})


def run(manifest: Path, weights: Path, chosen: Detection | None = None, part: str = "trial-0", **options: Any) -> None:
    """Train and measure in the working folder."""
    out = OUT.with_name(f"{part}.json")
    settings = {"threads": 1, "device": "cpu", **options}
    detect(chosen or protocol(), "detection", part, "some-run", weights, manifest, out, **settings)


def train(training: DetectorTraining, data: TrainingBatches, folder: Path, save_every: float) -> None:
    """Train to the last step, without workers."""
    training.run(prefetch(data, range(training.step, training.total), 0), folder, save_every)


def checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("runs/some-run-detection-trial-0-*/checkpoints/step-*.pt"))


def final_weights(folder: Path) -> dict[str, torch.Tensor]:
    state = torch.load(checkpoints(folder)[-1], weights_only=True)
    assert state["step"] == STEPS
    weights: dict[str, torch.Tensor] = state["model"]
    return weights


def assert_same_outcome(folder: Path, other: Path) -> None:
    ours, theirs = final_weights(folder), final_weights(other)
    assert ours.keys() == theirs.keys()
    assert not [name for name in ours if not torch.equal(ours[name], theirs[name])]
    for ending in (".json", ".npz"):
        assert (folder / OUT).with_suffix(ending).read_bytes() == (other / OUT).with_suffix(ending).read_bytes()


if __name__ == "__main__":
    try:
        run(Path(sys.argv[1]), Path(sys.argv[2]), save_every=0)
    except ScfsError as failure:
        sys.exit(f"scfs: {failure}")
