"""The base class of all backbones."""

from torch import nn


class Network(nn.Module):
    """A backbone: maps images (B, 3, H, W) to a dictionary of maps (B, C_i, H_i, W_i), at least layer2 to layer4.

    A map called `cls`, (B, C), is the feature of the whole image; without it, the pooled layer4 is. A backbone whose
    settings have `drop_path` takes its factors as a second argument.
    """

    name: str
    """Key of `scfs.config.backbones.BACKBONES`."""
    channels: dict[str, int]
    """Channels of each layer's map."""
    activation_checkpointing = False
    """True: a training computes large maps inside the blocks again instead of keeping them."""
