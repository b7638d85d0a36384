"""Everything that defines one pre-training run. Defaults are the paper's ImageNet settings, each with its source.

Sources: [paper] Song et al., ICCV 2023; [script] the authors' released training script; [code] their released code;
[readme] their README; [DINO] Caron et al., ICCV 2021, whose settings the paper follows.
"""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, PlainSerializer, model_validator

from scfs.config.backbones import BACKBONES
from scfs.config.base import NAME, ORDERED, Config, Positive, Scale, Seed
from scfs.config.methods import METHODS
from scfs.config.registry import NameIn
from scfs.config.weight_formats import FORMATS, ImportFormat

Probability = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]
Epochs = Annotated[float, Field(ge=0), PlainSerializer(lambda epochs: int(epochs) if epochs % 1 == 0 else epochs)]
"""A number of epochs; a whole one is written without a point, as when it had to be whole: identities stay."""
Layer = Literal["layer2", "layer3", "layer4"]


class Views(Config):
    """The crops of an image and their augmentation."""

    global_size: Positive = 224
    """Side of the two global crops in pixels [paper 3.4]."""
    global_scale: Scale = (0.25, 1.0)
    """Share of the image's area that a global crop covers [script]."""
    local_size: Positive = 96
    """Side of the local crops in pixels [paper 3.4]."""
    local_scale: Scale = (0.05, 0.25)
    """Share of the image's area that a local crop covers [script]."""
    local_number: Annotated[int, Field(ge=0)] = 8
    """Number of local crops, N [paper 3.4]."""
    flip: Probability = 0.5
    """Probability of a horizontal flip [code]."""
    vertical_flip: Probability = 0.0
    """Probability of a vertical flip, for pictures in which no direction is up; not in the paper."""
    rotate90: Probability = 0.0
    """Probability of a quarter turn; with both flips at 0.5 all eight positions of a square are equally frequent."""
    jitter: Probability = 0.8
    """Probability of colour jitter (brightness, contrast, saturation, hue in random order) [code]."""
    brightness: Probability = 0.4
    """Brightness factor drawn from 1 -+ this [code]."""
    contrast: Probability = 0.4
    """Contrast factor drawn from 1 -+ this [code]."""
    saturation: Probability = 0.2
    """Saturation factor drawn from 1 -+ this [code]."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """Hue shift drawn from -+ this, in turns of the colour circle [code]."""
    grey: Probability = 0.2
    """Probability of conversion to grey [code]."""
    blur: tuple[Probability, Probability, Probability] = (1.0, 0.1, 0.5)
    """Probability of Gaussian blur: first global crop, second, local crops [code]."""
    sigma: Annotated[tuple[NonNegative, NonNegative], ORDERED] = (0.1, 2.0)
    """Range of the blur's standard deviation in pixels [code]."""
    solarize: Probability = 0.2
    """Probability of solarisation of the second global crop [code]."""


class ProjectionHead(Config):
    """DINO's projection head: MLP, L2 normalisation, weight-normalised linear layer [DINO, code]."""

    hidden: Positive = 2048
    """Width of the MLP."""
    bottleneck: Positive = 256
    """Width before the last layer."""
    # unsourced: the limit, 256 times the paper's number: the two encoders' last layers then take 34 GB
    prototypes: Annotated[int, Field(ge=2, le=2**24)] = 65536
    """Output dimension K."""
    batch_norm: bool = False
    """BatchNorm after the MLP's hidden layers."""


class SearchHead(Config):
    """Head of one searched layer: three convolutions and two fully connected layers [paper 3.4, code]."""

    width: Positive = 256
    """Channels of the bottleneck convolutions."""
    hidden: Positive = 2048
    """Width of the first fully connected layer."""
    output: Positive = 256
    """Output dimension."""


class Loss(Config):
    """Temperatures and centring [DINO, code]."""

    student_temperature: Annotated[float, Field(gt=0)] = 0.1
    """tau of Eq. 1."""
    teacher_temperature: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (0.04, 0.07)
    """tau' at the start and after its linear warm-up."""
    teacher_temperature_warmup: Epochs = 50
    """Epochs of that warm-up: from epoch to epoch, or, given with a fraction (0.5), from step to step."""
    center_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of the moving average of the teacher's outputs."""


class Optimizer(Config):
    """Optimiser and its schedules, all per step. Defaults are SGD's for ResNet-50 [script]."""

    name: Literal["sgd", "lars", "adamw"] = "sgd"
    """Kind of optimiser; `momentum` is SGD's and LARS's."""
    lr: NonNegative = 0.1
    """Learning rate per 256 images of a batch; the rate used is lr * batch / 256."""
    warmup_epochs: Annotated[float, Field(ge=0)] = 10
    """Epochs of linear warm-up from 0."""
    min_lr: NonNegative = 0.0048
    """Rate at the end of the cosine, absolute."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of SGD and LARS."""
    weight_decay: NonNegative = 1e-4
    """At the start, on matrices and kernels only (no bias, no norm)."""
    weight_decay_end: NonNegative | None = None
    """At the end, by cosine; none: constant."""
    clip: NonNegative = 3.0
    """Largest gradient norm of each parameter on its own; 0 switches clipping off [code]."""
    freeze_last_layer: Epochs = 1
    """Epochs in which the projection head's last layer gets no gradient [code]; also a fraction, such as 0.5."""
    freeze_backbone: Epochs = 0
    """Epochs in which a backbone from `init` gets no gradient, if a head is new: a random head would undo what the
    backbone knows. BatchNorm's statistics move all the same."""
    last_layer_lr: NonNegative = 1.0
    """Factor of the rate for the projection head's last layer."""
    last_layer_weight_decay: NonNegative | None = None
    """Of the projection head's last layer, constant; none: that of the others."""
    teacher_momentum: Annotated[float, Field(ge=0, le=1)] = 0.996
    """Momentum of the teacher's moving average at the start; cosine to 1 [code]."""


class Pretrain(Config):
    """One pre-training run."""

    dataset: str
    """Name of the data set, a key of the study's `data`."""
    split: str = "pretrain"
    """Split to train on; no method but supervised uses its labels."""
    method: Annotated[str, NameIn(METHODS)] = "scfs"
    """Row of Table 7. dino: the data loss alone (Eq. 4). scfs: and feature search on every layer of `layers`; without
    local crops each global crop searches the other one. dino_ml: and the layers contrasted directly, without a search.
    roi_crop: as scfs, with the features at the local crop's place instead of the searched ones. supervised: none of
    these, but cross-entropy of a linear classifier with the labels of the split, mean over all crops (the two global
    ones among them), for the paper's
    supervised rows and Fig. 1 (# unsourced: which recipe the paper's supervised weights were trained by)."""
    preset: Literal["official", "paper"] = "official"
    """Where paper and authors' code differ: the code, or Eq. 2, 3 and 9-11 read literally."""
    backbone: Annotated[str, NameIn(BACKBONES)] = "resnet50"
    """ResNet in torchvision's names, or ViT of 16 or 8 pixels per patch in timm's and DINO's. For small machines:
    narrow_resnet18 has half of ResNet-18's channels, narrow_vit_8 128 channels and 6 blocks (# unsourced: ours).
    small_stem_resnet18 and _resnet50 are for images of 32 pixels: a stem of 3 x 3 without stride and pooling."""
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability that the last block of a student ViT leaves out a residual branch for a crop; it rises linearly from
    0 at the first block [DINO: 0.1]. Only ViT has it."""
    layers: tuple[Layer, ...] = ("layer2", "layer3", "layer4")
    """Layers that are searched, V_L of Eq. 10 (the paper calls them Res2, Res3, Res4). Of a ViT they are the patch
    tokens after the blocks at 1/2, 3/4 and the end (# unsourced: the authors' code has no ViT search)."""
    epochs: Annotated[int, Field(ge=0)] = 200
    """Passes over the split; 0 writes the random initial weights."""
    batch: Positive = 256
    """Images per optimiser step, over all processes."""
    accumulate: Positive = 1
    """Parts that a batch is computed in, one after the other, to save memory; BatchNorm sees the parts."""
    seed: Seed = 0
    """Seed of weights, order and augmentation."""
    init: str | None = None
    """File of weights to start from, into student and teacher: its backbone, and those heads that fit; of a file with
    two encoders the teacher's. Ours, in whatever name, or of a library: the names of its tensors say which. Another
    run of the study leaves checkpoints/<run>.safetensors. The file's SHA-256 is part of the identity, its place is not.
    None: random weights."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Arithmetic of the forward pass; auto: bf16 where the hardware is fast at it; fp16 scales the loss."""
    views: Views = Views()
    """Crops and augmentation."""
    head: ProjectionHead = ProjectionHead()
    """Projection head of the data loss."""
    search_head: SearchHead = SearchHead()
    """Heads of the searched layers."""
    loss: Loss = Loss()
    """Temperatures and centring."""
    optimizer: Optimizer = Optimizer()
    """Optimiser and schedules."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.has_layer_heads and not self.layers:
            raise ValueError(f"layers must name at least one layer for method {self.method}")
        if METHODS[self.method].local_crops and self.views.local_number < 1:
            raise ValueError(f"views.local_number must be at least 1 for method {self.method}")
        if self.method == "roi_crop" and (self.views.vertical_flip or self.views.rotate90):
            raise ValueError("views.vertical_flip and views.rotate90 must be 0 for method roi_crop: boxes are upright")
        if self.views.local_number and self.views.local_size > self.views.global_size:
            raise ValueError(f"views.local_size must not exceed views.global_size ({self.views.global_size})")
        self._check_vit()
        if self.batch % self.accumulate:
            raise ValueError(f"accumulate must divide batch ({self.batch})")
        if len(set(self.layers)) != len(self.layers):
            raise ValueError("layers must not repeat")
        if self.epochs and self._part_is_a_single_value():
            raise ValueError("batch / accumulate * views.local_number must exceed 1: BatchNorm needs several crops")
        if self.init and not self.epochs:
            raise ValueError("epochs must be at least 1 with init: nothing would be trained")
        if self.epochs and self.optimizer.warmup_epochs > self.epochs:
            raise ValueError(f"optimizer.warmup_epochs must not exceed epochs ({self.epochs})")
        return self

    @property
    def has_layer_heads(self) -> bool:
        """True if there are heads of layers; the data loss and supervised training have none."""
        return METHODS[self.method].layer_heads

    @property
    def learns_from_labels(self) -> bool:
        """True if the method learns from the labels of the split, so that its weights have a classifier."""
        return METHODS[self.method].labels

    @property
    def init_files(self) -> list[Path]:
        """The file of `init`, where there is one."""
        return [Path(self.init)] if self.init else []

    def _check_vit(self) -> None:
        patch = BACKBONES[self.backbone].patch
        if patch is None:
            if self.drop_path:
                others = ", ".join(name for name in BACKBONES if BACKBONES[name].patch)
                raise ValueError(f"drop_path must be 0 for backbone {self.backbone}: only {others} have it")
            return
        for name in ("global_size", *(["local_size"] if self.views.local_number else [])):
            if getattr(self.views, name) % patch:
                raise ValueError(f"views.{name} must be a multiple of {patch} for backbone {self.backbone}")

    def _part_is_a_single_value(self) -> bool:
        """A part's one local crop, where BatchNorm sees one value: in a search head, or in a ResNet's layer4 of 1 x 1.

        The projection head is safe: it sees local and global crops together, as does the backbone the two global ones.
        A ViT has no BatchNorm.
        """
        single = self.batch // self.accumulate * self.views.local_number == 1
        spec = BACKBONES[self.backbone]
        on_one_position = spec.patch is None and self.views.local_size <= spec.strides[-1]
        return single and (self.has_layer_heads or on_one_position)


class Imported(Config):
    """Third-party weights as a run of a study."""

    weights: str
    """Entry of scfs/weights/catalogue.yaml, or a file (a name with a dot or a slash)."""
    backbone: Annotated[str, NameIn(BACKBONES)]
    """Architecture, in the names of `pretrain`."""
    format: ImportFormat | None = None
    """Names and nesting of a file's tensors; an entry of the catalogue has its own. official: the authors' code."""
    prefix: str = ""
    """Which of the networks in the file: the keys of dictionaries and the beginning of its tensors' names, joined by
    dots, such as state_dict.module.encoder_q. Not needed where there is one."""
    ignore: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Beginnings of names of tensors that are no part of the network, such as fc. or queue."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.is_file and self.format is None:
            known = sorted(name for name in FORMATS if FORMATS[name].imports)
            raise ValueError(f"format is missing: the file {self.weights} does not say it; {known}")
        if not self.is_file and self.format is not None:
            raise ValueError(f"format does not apply: the catalogue says that of {self.weights}")
        return self

    @property
    def is_file(self) -> bool:
        """True if `weights` is a file and not an entry of the catalogue."""
        return re.fullmatch(NAME, self.weights) is None
