"""Protocol of fine-tuning the whole encoder: semi-supervised learning and transfer. Defaults are SimCLR's for transfer.

Source: Chen et al., ICML 2020, appendices B.5 (semi-supervised: batch 4096, lr 0.05, no weight decay, 60 epochs of 1%
or 30 of 10% of the labels) and B.8 (transfer), which the paper and BYOL follow.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from scfs.config.base import ORDERED, Config, Positive, Seed
from scfs.config.data import PublishedList
from scfs.config.data_source import SMALL_IMAGES
from scfs.config.protocol import PERCENT, SMALL_BATCH, TRAINED, Passes, Value, ViewProtocol, evaluation

Share = Annotated[float, Field(gt=0, lt=1)]
Rates = tuple[Annotated[float, Field(gt=0)], ...]

VALIDATED = 0.1
"""Share of the labelled images that a grid point is taken to be validated on, in the plan."""
SMALL_GRID = 2
"""Rates, and weight decays, of a rehearsal."""


class LabelledFiles(PublishedList):
    """A list of the images whose labels may be used that somebody publishes: file names without folders, one per line.

    SimCLR's: imagenet_subsets/1percent.txt and 10percent.txt of github.com/google-research/simclr.
    """

    small_text: ClassVar[str] = "".join(f"{number}.jpg\n" for number in range(SMALL_IMAGES))


class LabelledShare(Config):
    """A share of the images of each class, rounded, one at least, drawn from a seed: for data without a published
    list."""

    share: Share
    """Share of each class."""
    seed: Seed = 0
    """Seed of the draw."""


@evaluation
class FineTune(ViewProtocol):
    """All weights trained with a new classifier: SGD with Nesterov's momentum, cosine to 0, crops and flips alone.

    With several rates or weight decays, each pair trains on the labelled images without the validation part, the best
    on that is trained again on both, and only then is the test split looked at. BatchNorm's running statistics move by
    min(10 / steps per epoch, 0.1) [SimCLR B.8].
    """

    stage: ClassVar[Literal["finetune"]] = "finetune"
    training_record: ClassVar[str] = "chosen"
    training_facts: ClassVar[Mapping[str, str]] = {"chosen learning rate": "lr", "chosen weight decay": "weight_decay"}

    kind: Literal["finetune"]
    train: str = "train"
    """Split to train on."""
    labels: LabelledFiles | LabelledShare | None = None
    """Images of it that have labels (semi-supervised learning); none: all."""
    validation: Share | str = 0.1
    """Images that choose among rates and decays: a share of each class of the labelled images, drawn from `seed`, or
    a split's name, which the final training gets in any case."""
    metric: Literal["top1", "mean_per_class"] = "top1"
    """Accuracy that is compared to choose, and that the data set's users report."""
    steps: Positive | None = None
    """Training steps [SimCLR B.8: 20000]; or `epochs`."""
    epochs: Positive | None = None
    """Passes over the labelled images; batches run on from one into the next, and the last one is filled up."""
    batch: Positive = 256
    """Images per step."""
    accumulate: Positive = 1
    """Parts that a batch is computed in; BatchNorm sees one part at a time."""
    lr: Rates = Field(default=(0.0001, 0.00032, 0.001, 0.0032, 0.01, 0.032, 0.1), min_length=1)
    """Learning rates per 256 images of a batch [SimCLR B.8: 7, logarithmically spaced]."""
    weight_decay: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        default=(0.0, 1e-6, 3.2e-6, 1e-5, 3.2e-5, 1e-4, 3.2e-4, 1e-3), min_length=1
    )
    """Weight decays, each divided by its `lr` before it is used [SimCLR B.8: 0 and 7 of 1e-6 to 1e-3]. All but
    BatchNorm's parameters decay [SimCLR's code]."""
    scale: Annotated[tuple[Share, Annotated[float, Field(gt=0, le=1)]], ORDERED] = (0.08, 1.0)
    """Share of the area that the random crop covers (torchvision's default)."""
    seed: Seed = 0
    """Seed of the classifier's weights, the validation part, the order and the crops."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the forward pass; auto: bf16 where the machine computes in it."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs")
        if self.batch % self.accumulate:
            raise ValueError(f"accumulate = {self.accumulate}: does not divide batch = {self.batch}")
        if self.batch == self.accumulate:
            raise ValueError("batch / accumulate must exceed 1: BatchNorm needs more than one image")
        for name in ("lr", "weight_decay"):
            if len(set(getattr(self, name))) != len(getattr(self, name)):
                raise ValueError(f"{name} must not repeat")
        if self.validation in (self.train, self.test):
            raise ValueError(f"validation = {self.validation!r}: must be another split than train and test, or a share")
        return self

    @property
    def grid(self) -> dict[str, tuple[float, float]]:
        """Learning rate and weight decay of every grid point, by its name."""
        return {
            f"lr{i}-wd{j}": (lr, weight_decay)
            for i, lr in enumerate(self.lr)
            for j, weight_decay in enumerate(self.weight_decay)
        }

    @property
    def parts(self) -> tuple[str, ...]:
        """Points of the grid; none if there is no choice."""
        return tuple(self.grid) if len(self.grid) > 1 else ()

    @property
    def splits(self) -> tuple[str, ...]:
        """Splits of training, choice and test."""
        own = (self.validation,) if isinstance(self.validation, str) else ()
        return (self.train, *own, self.test)

    @property
    def complete_splits(self) -> tuple[str, ...]:
        """Splits of training and test."""
        return (self.train, self.test)

    def values(self) -> dict[str, Value]:
        """Accuracies of the final training on the test split."""
        return dict.fromkeys(["top1", "top5", "mean_per_class"], PERCENT)

    def passes(self, images: Callable[[str], int], part: bool = False) -> Passes:
        """Count one training on labelled images, and its validation (a grid point) or test (the final one)."""
        labelled = images(self.train)
        if isinstance(self.labels, LabelledShare):
            labelled = round(labelled * self.labels.share)
        trained = self.steps * self.batch if self.steps else (self.epochs or 0) * labelled
        return [(TRAINED * trained + (VALIDATED * labelled if part else images(self.test)), self.crop)]

    @property
    def assumptions(self) -> tuple[str, ...]:
        """Name a list of images that the plan does not read."""
        if isinstance(self.labels, LabelledFiles):
            return (f"{self.labels.file}: its number of images is not known: counted as all",)
        return ()

    def small(self) -> Self:
        """Train for two steps, in a grid of four points at most."""
        steps = {"batch": SMALL_BATCH, "accumulate": 1, "steps": 2, "epochs": None}
        grid = {"lr": self.lr[:SMALL_GRID], "weight_decay": self.weight_decay[:SMALL_GRID]}
        labels = self.labels.small(f"{self.dataset}-labels") if isinstance(self.labels, LabelledFiles) else self.labels
        return super().small().model_copy(update={**steps, **grid, "labels": labels})
