"""Protocol of object detection and instance segmentation; the recipes are in scfs/detection/recipes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import yaml

from scfs.config.backbones import is_vit
from scfs.config.base import Config, Positive, Seed
from scfs.config.protocol import PERCENT, SMALL_SIDE, SPREAD, TRAINED, Passes, Protocol, Value, evaluation

Recipe = Literal["voc_faster_rcnn_c4", "coco_mask_rcnn_fpn_1x", "coco_mask_rcnn_fpn_2x"]

VALUES = {
    "voc": ("ap", "ap50", "ap75"),
    "coco": tuple(f"{part}_{ap}" for part in ("box", "mask") for ap in ("ap", "ap50", "ap75")),
}
"""Average precisions that are measured, by the benchmark that the recipe's name begins with."""

IMAGES_PER_BATCH = 16
"""Images per step in all recipes."""
RECIPES = Path(__file__).parents[1] / "detection" / "recipes"
COUNTED_SIDE = 224
"""Pixels of the square image whose operations stand for those of a larger one, in proportion to the areas."""
SMALL_TRIALS = 2
"""Trials of a rehearsal."""


class SmallMachine(Config):
    """Settings for a machine without a GPU. They only lower the recipe's counts; its number is another one then."""

    iterations: Positive
    """Training steps; the rate's steps and its warm-up shrink in proportion."""
    short_side: Positive
    """Shorter side of training and test images in pixels; the anchors shrink in proportion."""
    rpn_batch: Positive = 64
    """Anchors that the proposal network's loss samples from an image [Detectron2: 256]."""
    roi_batch: Positive = 32
    """Proposals that the heads' loss samples from an image [Detectron2: 512]."""
    proposals: Positive = 100
    """Proposals of an image that are left after non-maximum suppression [Detectron2: 1000 to 2000]."""
    precise_bn: Positive = 20
    """Batches that BatchNorm's statistics are estimated from after the training [Detectron2: 200]."""


@evaluation
class Detection(Protocol):
    """Fine-tuning of a detector (Detectron2), all layers, and its average precision in percent."""

    stage: ClassVar[Literal["detect"]] = "detect"
    leaves_arrays: ClassVar[bool] = True
    training_record: ClassVar[str] = "resolved"
    training_facts: ClassVar[Mapping[str, str]] = {
        "iterations": "iterations",
        "images per batch": "images_per_batch",
        "learning rate": "lr",
    }
    spread_over: ClassVar[str] = "trials"

    kind: Literal["detection"]
    weights: Literal["teacher"] = "teacher"
    """The encoder that `convert` writes for Detectron2."""
    recipe: Recipe
    """Architecture, schedule and metric: a file of scfs/detection/recipes."""
    train: str = "train"
    """Split to train on."""
    trials: Positive = 1
    """Trainings from the same weights with seeds seed, seed + 1, ...: mean and standard deviation are reported."""
    seed: Seed = 0
    """Seed of the heads' weights, of the order and of the augmentation."""
    images_per_batch: Positive | None = None
    """Images per step, if not the recipe's 16: rate and warm-up then follow the linear scaling rule, and the number of
    steps is such that as many images are seen [Goyal et al., 2017]."""
    box_head: Literal["2fc", "4conv1fc"] = "2fc"
    """FPN only: hidden layers of the box head (# unsourced: the paper does not say; supervised weights can tell)."""
    small_machine: SmallMachine | None = None
    """Lower counts for a small machine; none: the recipe itself."""
    figure_images: Positive = 4
    """Test images whose detections are kept for a figure."""

    @property
    def benchmark(self) -> str:
        """Whose metric it is: voc or coco."""
        return self.recipe.split("_")[0]

    @property
    def parts(self) -> tuple[str, ...]:
        """One training for each trial."""
        return tuple(f"trial-{number}" for number in range(self.trials))

    def values(self) -> dict[str, Value]:
        """Average precisions in percent, and their spread over several trials."""
        names = VALUES[self.benchmark]
        spreads = [f"{name}_sd" for name in names if self.trials > 1]
        return {**dict.fromkeys(names, PERCENT), **dict.fromkeys(spreads, SPREAD)}

    def passes(self, images: Callable[[str], int], part: bool = False) -> Passes:
        """Count training and test of one trial by the area of their images, as so many of `COUNTED_SIDE`."""
        if not part:
            return []
        recipe, small = yaml.safe_load((RECIPES / f"{self.recipe}.yaml").read_text())["config"], self.small_machine
        trained = recipe["SOLVER"]["MAX_ITER"] * IMAGES_PER_BATCH  # the same with fewer images per batch
        if small:
            trained = small.iterations * (self.images_per_batch or IMAGES_PER_BATCH)
        side = small.short_side if small else recipe["INPUT"]["MIN_SIZE_TEST"]
        area = side**2 * 4 / 3 / COUNTED_SIDE**2
        return [((TRAINED * trained + images(self.test)) * area, COUNTED_SIDE)]

    @property
    def assumptions(self) -> tuple[str, ...]:
        """Say what of a detector is counted."""
        return ("detection: the encoder's operations alone, on images of 4 : 3",)

    def remarks(self, name: str) -> list[str]:
        """Say where the values are means over trials, or not the recipe's numbers."""
        found = []
        if self.trials > 1:
            found.append(
                f"mean of {self.trials} trials of each run; their standard deviation is in the results of {name}."
            )
        if small := self.small_machine:
            found.append(
                f"small-machine settings, with fewer iterations ({small.iterations:,}), smaller images "
                f"({small.short_side} pixels) and fewer proposals than the recipe {self.recipe}: not its numbers."
            )
        return found

    def small(self) -> Self:
        """Train for two steps on small images, in two trials at most."""
        sizes = {"iterations": 2, "short_side": SMALL_SIDE, "rpn_batch": 16, "roi_batch": 8, "proposals": 16}
        counts = {"images_per_batch": 2, "figure_images": 2, "trials": min(self.trials, SMALL_TRIALS)}
        return self.model_copy(update={**counts, "small_machine": SmallMachine(**sizes, precise_bn=2)})

    def problem(self, run: Any, data: Any) -> str:
        """Refuse ViTs, and images without boxes."""
        if is_vit(run.backbone):
            return f"backbone = {run.backbone!r}: allowed are ResNets"
        if not data.has_boxes:
            return f"dataset = {self.dataset!r}: its images have no boxes (source: {data.source})"
        return ""
