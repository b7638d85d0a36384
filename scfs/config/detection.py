"""Protocol of object detection and instance segmentation; the recipes are in scfs/detection/recipes."""

from typing import ClassVar, Literal

from scfs.config.base import Config, Seed
from scfs.config.protocol import Positive, Protocol

Recipe = Literal["voc_faster_rcnn_c4", "coco_mask_rcnn_fpn_1x", "coco_mask_rcnn_fpn_2x"]

VALUES = {
    "voc": ("ap", "ap50", "ap75"),
    "coco": tuple(f"{part}_{ap}" for part in ("box", "mask") for ap in ("ap", "ap50", "ap75")),
}
"""What is measured, by the benchmark that the recipe's name begins with."""

IMAGES_PER_BATCH = 16
"""Of all recipes."""


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


class Detection(Protocol):
    """Fine-tuning of a detector (Detectron2), all layers, and its average precision in percent."""

    stage: ClassVar[Literal["detect"]] = "detect"

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
    def leaves_arrays(self) -> bool:
        """Detections on some images, and precision over recall."""
        return True

    @property
    def parts(self) -> tuple[str, ...]:
        """One for each trial."""
        return tuple(f"trial-{number}" for number in range(self.trials))

    @property
    def splits(self) -> tuple[str, ...]:
        """Those of training and test."""
        return (self.train, self.test)

    def values(self) -> list[str]:
        """Names of what is measured."""
        names = VALUES[self.benchmark]
        return [*names, *(f"{name}_sd" for name in names if self.trials > 1)]
