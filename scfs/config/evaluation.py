"""Protocols of the evaluations. Defaults are the paper's, from the authors' code and README."""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from scfs.config import detection, finetune  # noqa: F401  # they add themselves
from scfs.config.backbones import is_vit
from scfs.config.base import Positive, Scale, Seed
from scfs.config.finetune import Share
from scfs.config.pretrain import Pretrain
from scfs.config.protocol import PERCENT, SMALL_BATCH, SMALL_CROP, SPREAD, Passes, Value, ViewProtocol, evaluation


class KnnProtocol(ViewProtocol):
    """Weighted k-nearest-neighbour vote (Wu et al., CVPR 2018)."""

    train: str = "train"
    """Split of the labelled neighbours."""
    k: tuple[Positive, ...] = (10, 20, 30)
    """Numbers of neighbours."""
    report_k: Positive = 20
    """The k whose accuracy goes into tables."""
    temperature: Annotated[float, Field(gt=0)] = 0.07
    """A neighbour of cosine similarity s has the weight exp(s / temperature)."""

    @model_validator(mode="after")
    def _reported_is_computed(self) -> Self:
        if self.report_k not in self.k:
            raise ValueError(f"report_k must be one of k {list(self.k)}")
        return self

    def small(self) -> Self:
        """Take 1, 2, ... neighbours, as there are few images."""
        before = list(dict.fromkeys(self.k))
        few = {"k": tuple(range(1, len(before) + 1)), "report_k": before.index(self.report_k) + 1}
        return super().small().model_copy(update=few)


@evaluation
class Knn(KnnProtocol):
    """k-NN on the image's feature: a ResNet's pooled layer4, a ViT's last [CLS]."""

    kind: Literal["knn"]

    def values(self) -> dict[str, Value]:
        """Accuracies at `report_k`, then at each k."""
        each = (f"{name}_k{k}" for k in self.k for name in ("top1", "top5"))
        return dict.fromkeys(["top1", "top5", *each], PERCENT)


@evaluation
class Layers(KnnProtocol):
    """k-NN on the pooled maps of single layers (the paper's Fig. 4)."""

    kind: Literal["layers"]
    layers: tuple[Literal["layer1", "layer2", "layer3", "layer4"], ...] = Field(
        default=("layer2", "layer3", "layer4"), min_length=1
    )
    """Layers to pool."""

    def values(self) -> dict[str, Value]:
        """Top-1 of each layer."""
        return dict.fromkeys(self.layers, PERCENT)


class Probe(ViewProtocol):
    """A linear classifier on the frozen encoder: SGD, momentum 0.9, no weight decay, cosine to 0.

    With `lr_sweep`, classifiers of all its rates train side by side, each once on all images and once without the
    held-out ones; the rate that is best on these after the last epoch is reported, of the classifier of all images.
    """

    train: str = "train"
    """Split to fit on."""
    epochs: Positive = 100
    """Passes over the features."""
    batch: Positive = 256
    """Images per step."""
    lr: Annotated[float, Field(gt=0)] = 0.01
    """Learning rate per 256 images of a batch, cosine to 0; without effect if there is a sweep."""
    lr_sweep: tuple[Annotated[float, Field(gt=0)], ...] = ()
    """Rates among which held-out images choose, such as 0.001 to 0.3; none: `lr` is used."""
    validation: Share = 0.1
    """Share of each class of the train split that is held out for a sweep, drawn from the first of `seeds`."""
    seeds: tuple[Seed, ...] = Field(default=(0, 1, 2), min_length=1)
    """Seeds of initial weights and order; mean and standard deviation are reported."""
    cls_blocks: Positive = 1
    """Last blocks of a ViT whose [CLS] are joined to the feature [DINO: 4 for ViT-S, 1 for ViT-B]; 1 for a ResNet."""

    @model_validator(mode="after")
    def _sweep_is_a_choice(self) -> Self:
        if len(self.lr_sweep) == 1 or len(set(self.lr_sweep)) != len(self.lr_sweep):
            raise ValueError(f"lr_sweep = {list(self.lr_sweep)}: give two rates or more, each once, or none")
        return self

    def values(self) -> dict[str, Value]:
        """Top-1 after the last epoch and at its best, and the spread of the first over the seeds."""
        spread = {"top1_sd": SPREAD} if len(self.seeds) > 1 else {}
        return {"top1": PERCENT, "best_top1": PERCENT, **spread}

    def small(self) -> Self:
        """Fit for one epoch in small batches."""
        return super().small().model_copy(update={"epochs": 1, "batch": SMALL_BATCH})

    def problem(self, run: Any, data: Any) -> str:
        """Refuse to join [CLS] that a ResNet does not have."""
        if self.cls_blocks > 1 and not is_vit(run.backbone):
            return f"cls_blocks = {self.cls_blocks}: backbone {run.backbone} has no [CLS]"
        return ""


@evaluation
class LinearCached(Probe):
    """Fitted on features extracted once, without augmentation. Quick; NOT the paper's linear probing."""

    kind: Literal["linear_cached"]


@evaluation
class Linear(Probe):
    """Linear probing as the paper does it: random-resized-crop and flip, features anew in every epoch."""

    kind: Literal["linear"]
    batch: Positive = 2048
    """Images per step [authors' README]."""
    scale: Scale = (0.08, 1.0)
    """Share of the area that the random crop covers (torchvision's default)."""

    def passes(self, images: Callable[[str], int], part: bool = False) -> Passes:
        """Count the training images in every epoch, and the test images once."""
        return [(self.epochs * images(self.train) + images(self.test), self.crop)]


@evaluation
class Attention(ViewProtocol):
    """Search attention maps (Eq. 6, the paper's Fig. 3), scored against object masks where the data has them."""

    leaves_arrays: ClassVar[bool] = True
    spread_over: ClassVar[str] = "images"

    kind: Literal["attention"]
    layer: Literal["layer2", "layer3", "layer4"] = "layer4"
    """Layer whose map is searched [Fig. 3: Res4]."""
    figure_images: Positive = 6
    """Images drawn in the figure."""
    local_crop: Positive = 96
    """Side to which each of the four jigsaw pieces is resized, in pixels."""

    def values(self) -> dict[str, Value]:
        """Scores of the images that have object masks; without masks only their number, `images`."""
        score = Value(digits=2)  # a ratio near 1
        spread = score._replace(better=None)
        return {"images": Value(0, better=None), "score": score, "score_sd": spread, "pointing": PERCENT}

    def passes(self, images: Callable[[str], int], part: bool = False) -> Passes:
        """Count the views and their four pieces."""
        return [*super().passes(images), (4 * images(self.test), self.local_crop)]

    def small(self) -> Self:
        """Search with small pieces, and draw few images."""
        return super().small().model_copy(update={"local_crop": SMALL_CROP, "figure_images": 2})


@evaluation
class ObjectSearch(ViewProtocol):
    """What crops find in their image (Eq. 5 and 6), by how much of it is the object: the paper's claim, on images with
    masks. The crops are drawn as pre-training draws its local ones, and neither flipped nor coloured."""

    quarters: ClassVar[tuple[int, ...]] = (0, 25, 50, 75)
    """Crops are told apart by the percentage of their pixels that the object covers: from each of these to the next."""

    kind: Literal["object_search"]
    layers: tuple[Literal["layer2", "layer3", "layer4"], ...] = Field(
        default=("layer2", "layer3", "layer4"), min_length=1
    )
    """Layers whose map is searched, each with its own query."""
    crops: Positive = 8
    """Crops of each image [paper 3.4]."""
    local_size: Positive = 96
    """Side of these crops in pixels [paper 3.4]."""
    local_scale: Scale = (0.05, 0.25)
    """Share of the image's area that such a crop covers [script]."""
    seed: Seed = 0
    """Seed of the crops."""

    def values(self) -> dict[str, Value]:
        """Number of crops of each quarter, and each layer's score and pointing; a quarter without crops has none."""
        values = {f"crops_{quarter}": Value(0, better=None) for quarter in self.quarters}
        for measure, value in (("score", Value(digits=2)), ("pointing", PERCENT)):
            values |= {f"{layer}_{measure}_{quarter}": value for layer in self.layers for quarter in self.quarters}
        return values

    def passes(self, images: Callable[[str], int], part: bool = False) -> Passes:
        """Count the views and their crops."""
        return [*super().passes(images), (self.crops * images(self.test), self.local_size)]

    def small(self) -> Self:
        """Draw few and small crops."""
        return super().small().model_copy(update={"local_size": SMALL_CROP, "crops": 2})


@evaluation
class ClassProbabilities(ViewProtocol):
    """Class probabilities of a supervised model for an image, an over-augmented crop of it, and what the crop's feature
    finds in the image (Eq. 6 and 7), as in the paper's Fig. 1. Needs a run of the method supervised."""

    leaves_arrays: ClassVar[bool] = True

    kind: Literal["class_probabilities"]
    crops: Positive = 8
    """Crops drawn of each image, of which the one with the least probability of the image's class counts as
    over-augmented (# unsourced: the paper shows chosen crops; 8 are its local crops)."""
    local_size: Positive = 96
    """Side of these crops in pixels [paper 3.4]."""
    local_scale: Scale = (0.05, 0.25)
    """Share of the image's area that such a crop covers [script]."""
    seed: Seed = 0
    """Seed of the crops and of their colours, which are those of pre-training."""
    figure_images: Positive = 4
    """Images drawn in the figure."""

    def values(self) -> dict[str, Value]:
        """Mean probability of the images' classes, and top-1, of each sort of view."""
        kinds = ("original", "over_augmented", "searched")
        return {f"{measure}_{kind}": PERCENT for measure in ("probability", "top1") for kind in kinds}

    def passes(self, images: Callable[[str], int], part: bool = False) -> Passes:
        """Count the views and their crops."""
        return [*super().passes(images), (self.crops * images(self.test), self.local_size)]

    def small(self) -> Self:
        """Draw few and small crops, and few images."""
        return super().small().model_copy(update={"local_size": SMALL_CROP, "crops": 2, "figure_images": 2})

    def problem(self, run: Any, data: Any) -> str:
        """Refuse runs that have no classifier on a pooled map."""
        if isinstance(run, Pretrain) and not run.learns_from_labels:
            return f"method = {run.method!r}: only supervised runs have a classifier"
        return f"backbone = {run.backbone!r}: allowed are ResNets" if is_vit(run.backbone) else ""
