"""Pre-training methods by name, with what settings must know of them. scfs.model.methods has their losses."""

from dataclasses import dataclass

from scfs.config.registry import Registry


@dataclass(frozen=True)
class MethodSpec:
    """Properties of a pre-training method that are known before its model is built."""

    layer_heads: bool = False
    """True if the layers named by `layers` have heads."""
    local_crops: bool = False
    """True if it needs at least one local crop."""
    labels: bool = False
    """True if it learns from the labels of the split; its weights then contain a classifier."""


METHODS: Registry[MethodSpec] = Registry("method")
METHODS.add("scfs")(MethodSpec(layer_heads=True))
METHODS.add("dino")(MethodSpec())
METHODS.add("dino_ml")(MethodSpec(layer_heads=True))
METHODS.add("roi_crop")(MethodSpec(layer_heads=True, local_crops=True))
METHODS.add("supervised")(MethodSpec(labels=True))
