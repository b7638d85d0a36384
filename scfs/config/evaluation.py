"""Protocols of the evaluations. Defaults are the paper's, from the authors' code and README."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from scfs.config.base import Seed
from scfs.config.detection import Detection
from scfs.config.finetune import FineTune, Share
from scfs.config.protocol import Positive, ViewProtocol


class Vote(ViewProtocol):
    """Weighted k-nearest-neighbour vote (Wu et al., CVPR 2018)."""

    train: str = "train"
    """Split of the labelled neighbours."""
    k: tuple[Positive, ...] = (10, 20, 30)
    """Numbers of neighbours."""
    report_k: Positive = 20
    """The k whose accuracy goes into tables."""
    temperature: Annotated[float, Field(gt=0)] = 0.07
    """A neighbour of cosine similarity s has the weight exp(s / temperature)."""

    @property
    def splits(self) -> tuple[str, ...]:
        """Those of the neighbours and of the test."""
        return (self.train, self.test)

    @model_validator(mode="after")
    def _reported_is_computed(self) -> Self:
        if self.report_k not in self.k:
            raise ValueError(f"report_k must be one of k {list(self.k)}")
        return self


class Knn(Vote):
    """k-NN on the image's feature: a ResNet's pooled layer4, a ViT's last [CLS]."""

    kind: Literal["knn"]

    def values(self) -> list[str]:
        """Names of what is measured."""
        return ["top1", "top5", *(f"{name}_k{k}" for k in self.k for name in ("top1", "top5"))]


class Layers(Vote):
    """k-NN on the pooled maps of single layers (the paper's Fig. 4)."""

    kind: Literal["layers"]
    layers: tuple[Literal["layer1", "layer2", "layer3", "layer4"], ...] = Field(
        default=("layer2", "layer3", "layer4"), min_length=1
    )
    """Layers to pool."""

    def values(self) -> list[str]:
        """Names of what is measured."""
        return list(self.layers)


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

    @property
    def splits(self) -> tuple[str, ...]:
        """Those of the classifier and of the test."""
        return (self.train, self.test)

    def values(self) -> list[str]:
        """Names of what is measured."""
        return ["top1", "best_top1", *(["top1_sd"] if len(self.seeds) > 1 else [])]


class LinearCached(Probe):
    """Fitted on features extracted once, without augmentation. Quick; NOT the paper's linear probing."""

    kind: Literal["linear_cached"]


class Linear(Probe):
    """Linear probing as the paper does it: random-resized-crop and flip, features anew in every epoch."""

    kind: Literal["linear"]
    batch: Positive = 2048
    """Images per step [authors' README]."""
    scale: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]] = (0.08, 1.0)
    """Share of the area that the random crop covers (torchvision's default)."""

    @model_validator(mode="after")
    def _scale_is_ordered(self) -> Self:
        if self.scale[0] > self.scale[1]:
            raise ValueError("scale must be [low, high] with low <= high")
        return self


class Attention(ViewProtocol):
    """Search attention maps (Eq. 6, the paper's Fig. 3), scored against object masks where the data has them."""

    kind: Literal["attention"]
    layer: Literal["layer2", "layer3", "layer4"] = "layer4"
    """Layer whose map is searched [Fig. 3: Res4]."""
    figure_images: Positive = 6
    """Images drawn in the figure."""
    local_crop: Positive = 96
    """Side to which each of the four jigsaw pieces is resized, in pixels."""

    @property
    def leaves_arrays(self) -> bool:
        """Images and maps for the figure."""
        return True

    def values(self) -> list[str]:
        """Names of what is measured; without object masks only `images`."""
        return ["images", "score", "score_sd", "pointing"]


class ClassProbabilities(ViewProtocol):
    """Class probabilities of a supervised model for an image, an over-augmented crop of it, and what the crop's feature
    finds in the image (Eq. 6 and 7), as in the paper's Fig. 1. Needs a run of the method supervised."""

    kind: Literal["class_probabilities"]
    crops: Positive = 8
    """Crops drawn of each image, of which the one with the least probability of the image's class counts as
    over-augmented (# unsourced: the paper shows chosen crops; 8 are its local crops)."""
    local_size: Positive = 96
    """Side of these crops in pixels [paper 3.4]."""
    local_scale: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]] = (0.05, 0.25)
    """Share of the image's area that such a crop covers [script]."""
    seed: Seed = 0
    """Seed of the crops and of their colours, which are those of pre-training."""
    figure_images: Positive = 4
    """Images drawn in the figure."""

    @model_validator(mode="after")
    def _scale_is_ordered(self) -> Self:
        if self.local_scale[0] > self.local_scale[1]:
            raise ValueError("local_scale must be [low, high] with low <= high")
        return self

    @property
    def leaves_arrays(self) -> bool:
        """Images, maps and probabilities for the figure."""
        return True

    def values(self) -> list[str]:
        """Names of what is measured."""
        kinds = ("original", "over_augmented", "searched")
        return [f"{measure}_{kind}" for measure in ("probability", "top1") for kind in kinds]


Evaluation = Annotated[
    Knn | Layers | LinearCached | Linear | Attention | ClassProbabilities | FineTune | Detection,
    Field(discriminator="kind"),
]
