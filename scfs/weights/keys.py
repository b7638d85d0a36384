"""The one table of names: how other libraries and checkpoints call the tensors of our encoders.

Ours: a ResNet's names are torchvision's, a ViT's are timm's, a head's are the authors' (scfs.model).
"""

import re
from dataclasses import dataclass
from typing import Literal, get_args

Library = Literal["torchvision", "timm", "detectron2"]
Format = Literal["torchvision", "timm", "dino", "official", "safetensors"]

FAMILIES = {"resnet": "resnet", "narrow": "narrow", "vit": "vit"}
"""Family of an architecture by how its name begins; the narrow ones are known to no other library but Detectron2, whose
blocks take any width."""


@dataclass(frozen=True)
class Names:
    """Names of one family in one library."""

    architectures: dict[str, str]
    """Our name of an architecture: the library's."""
    classifier: str
    """Where the library keeps the classifier, which is our encoder's `classifier`; empty: it has none."""
    rules: tuple[tuple[str, str], ...] = ()
    """(beginning of our name as a pattern, what replaces it); no rules: the names are the same."""


_RESNETS = {name: name for name in ("resnet18", "resnet34", "resnet50", "resnet101")}

# Detectron2 counts the stages from the stem, and a convolution owns its norm.
_DETECTRON2 = (
    (r"conv1\.", "stem.conv1."),
    (r"bn1\.", "stem.conv1.norm."),
    *(
        (rf"layer{layer}\.(\d+)\.{ours}\.", rf"res{layer + 1}.\1.{theirs}.")
        for layer in (1, 2, 3, 4)
        for ours, theirs in (
            (r"conv(\d)", r"conv\2"),
            (r"bn(\d)", r"conv\2.norm"),
            (r"downsample\.0", "shortcut"),
            (r"downsample\.1", "shortcut.norm"),
        )
    ),
)

NAMES: dict[tuple[str, str], Names] = {
    ("torchvision", "resnet"): Names(_RESNETS, "fc"),
    ("timm", "resnet"): Names(_RESNETS, "fc"),
    ("timm", "vit"): Names({"vit_small_16": "vit_small_patch16_224", "vit_base_16": "vit_base_patch16_224"}, "head"),
    # torchvision has no ViT-S/16. Its attention keeps query, key and value in one matrix in timm's order.
    ("torchvision", "vit"): Names(
        {"vit_base_16": "vit_b_16"},
        "heads.head",
        (
            (r"cls_token$", "class_token"),
            (r"pos_embed$", "encoder.pos_embedding"),
            (r"patch_embed\.proj\.", "conv_proj."),
            (r"blocks\.(\d+)\.norm([12])\.", r"encoder.layers.encoder_layer_\1.ln_\2."),
            (r"blocks\.(\d+)\.attn\.qkv\.", r"encoder.layers.encoder_layer_\1.self_attention.in_proj_"),
            (r"blocks\.(\d+)\.attn\.proj\.", r"encoder.layers.encoder_layer_\1.self_attention.out_proj."),
            (r"blocks\.(\d+)\.mlp\.fc1\.", r"encoder.layers.encoder_layer_\1.mlp.0."),
            (r"blocks\.(\d+)\.mlp\.fc2\.", r"encoder.layers.encoder_layer_\1.mlp.3."),
            (r"norm\.", "encoder.ln."),
        ),
    ),
    ("detectron2", "resnet"): Names(_RESNETS, "", _DETECTRON2),
    ("detectron2", "narrow"): Names({"narrow_resnet18": "narrow_resnet18"}, "", _DETECTRON2),
}
"""By library and family."""

OWN = Names({}, "classifier")
"""Ours."""


@dataclass(frozen=True)
class Layout:
    """How a format's file is built around the tensors."""

    library: Library | None
    """Whose names the backbone has; None: ours."""
    encoders: tuple[str, ...] = ()
    """Keys of a file with several encoders, which are also our names of them."""
    required: tuple[str, ...] = ()
    """Those of them that such a file must have."""
    beside: tuple[str, ...] = ()
    """Keys beside them, which are not weights."""
    flat: bool = True
    """Whether a file may also be one backbone and nothing else."""
    backbone: str = ""
    """Prefix of the backbone within an encoder."""
    heads: tuple[str, ...] = ()
    """Names of the heads within an encoder."""
    classifier: bool = False
    """Whether a backbone may have a classifier."""


_TRAINING = ("optimizer", "epoch", "fp16_scaler")

LAYOUTS: dict[str, Layout] = {
    "torchvision": Layout("torchvision", classifier=True),
    "timm": Layout("timm", classifier=True),
    "safetensors": Layout(None, classifier=True),
    # DINO's vision_transformer.py has timm's names; its ResNets are torchvision's, whose names timm shares.
    "dino": Layout(
        "timm",
        encoders=("student", "teacher"),
        required=("teacher",),
        beside=(*_TRAINING, "args", "dino_loss"),
        backbone="backbone.",
        heads=("head",),
    ),
    # main_scfs.py at commit 7bb7c37; `model.` comes from torchextractor, which wraps the backbone there.
    "official": Layout(
        "torchvision",
        encoders=("student", "teacher"),
        required=("student", "teacher"),
        beside=(*_TRAINING, "arch", "dino_loss_fn", *(f"dino_loss_l{layer}_fn" for layer in (2, 3, 4))),
        flat=False,
        backbone="backbone.model.",
        heads=("head", "layer2_head", "layer3_head", "layer4_head"),
    ),
}
"""By format."""

DISTRIBUTED = "module."
"""Prefix of everything that DistributedDataParallel wraps; a file has it on all names of an encoder or on none."""

WEIGHT_NORM = {
    "last_layer.parametrizations.weight.original0": "last_layer.weight_g",
    "last_layer.parametrizations.weight.original1": "last_layer.weight_v",
}
"""PyTorch's newer names of a weight-normalised layer: the older ones, which are ours."""

OPTIONAL = "num_batches_tracked"
"""Ending of BatchNorm's counters, which older files lack; nothing that we compute depends on them."""


def family(backbone: str) -> str:
    """Family of one of our architectures."""
    return next(value for prefix, value in FAMILIES.items() if backbone.startswith(prefix))


def names_in(library: str | None, backbone: str) -> Names | None:
    """How `library` names this architecture; None if it does not have it."""
    if library is None:
        return OWN
    names = NAMES.get((library, family(backbone)))
    return names if names and backbone in names.architectures else None


def renamed(key: str, names: Names) -> str:
    """The library's name of one of our backbone's tensors.

    Raises:
        KeyError: no rule applies: the table lacks one.
    """
    if not names.rules:
        return key
    for pattern, replacement in names.rules:
        if re.match(pattern, key):
            return re.sub(f"^{pattern}", replacement, key)
    raise KeyError(key)


def export_formats(backbone: str) -> tuple[str, ...]:
    """Formats that weights of this architecture can be exported to."""
    return (*(library for library in get_args(Library) if names_in(library, backbone)), "safetensors")
