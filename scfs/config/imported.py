"""A run whose weights others trained: nothing is trained here, and every evaluation applies to it."""

import re
from typing import Literal, Self, get_args

from pydantic import model_validator

from scfs.config.base import NAME, Config
from scfs.config.pretrain import Pretrain

Format = Literal["torchvision", "timm", "dino", "official", "safetensors"]


class Imported(Config):
    """Weights of others as a run of a study."""

    weights: str
    """Entry of scfs/weights/catalogue.yaml, or a file (a name with a dot or a slash)."""
    backbone: str
    """Architecture, in the names of `pretrain`."""
    format: Format | None = None
    """Names and nesting of a file's tensors; an entry of the catalogue has its own. official: the authors' code."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        known = get_args(Pretrain.model_fields["backbone"].annotation)
        if self.backbone not in known:
            raise ValueError(f"backbone = {self.backbone!r}: not among {sorted(known)}")
        if self.is_file and self.format is None:
            raise ValueError(f"format is missing: the file {self.weights} does not say it; {sorted(get_args(Format))}")
        if not self.is_file and self.format is not None:
            raise ValueError(f"format does not apply: the catalogue says that of {self.weights}")
        return self

    @property
    def is_file(self) -> bool:
        """Whether `weights` is a file and not an entry of the catalogue."""
        return re.fullmatch(NAME, self.weights) is None
