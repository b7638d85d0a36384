"""Formats of weight files: how other libraries and training codes name and nest the tensors of our encoders.

A format is declared once, in weight_formats.yaml, here or by a plugin (scfs.config.registry), by one object; the
study's keys `format` and `convert`, import, export, strict matching, the command line and the workflows take it all
from there. Our names of a ResNet's tensors are torchvision's, those of a ViT are timm's, those of a head the authors'.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from scfs import paths
from scfs.config.registry import NameIn, Registry
from scfs.config.strict_yaml import load_yaml

if TYPE_CHECKING:
    from torch import Tensor

COUNTERS = "num_batches_tracked"
"""Ending of BatchNorm's counters, which older files lack; nothing that we compute depends on them."""


@dataclass(frozen=True)
class NameMap:
    """Names of some backbones in one library."""

    architectures: Mapping[str, str]
    """Each backbone that the library has: our name, and the library's."""
    classifier: str
    """Prefix of the classifier, which is our encoder's `classifier`; empty: the library keeps none."""
    rules: tuple[tuple[str, str], ...] = ()
    """(beginning of our name as a pattern, what replaces it); no rules: the names are the same."""

    def __call__(self, key: str) -> str:
        """Return the library's name of one of our backbone's tensors.

        Raises:
            KeyError: no rule applies: the map lacks one.
        """
        if not self.rules:
            return key
        for pattern, replacement in self.rules:
            if re.match(pattern, key):
                return re.sub(f"^{pattern}", replacement, key)
        raise KeyError(key)


@dataclass(frozen=True)
class WeightFormat:
    """A format: the names of the tensors, what stands around them in a file, and the kind of file."""

    names: tuple[NameMap, ...] | None = None
    """Name maps, each for other backbones; None: our own names, for every backbone."""
    imports: bool = True
    """True if files of this format can be imported."""
    exports: bool = True
    """True if weights can be exported to this format."""
    ending: str = "safetensors"
    """Ending of an exported file's name."""
    file: Literal["safetensors", "torch"] | Callable[[dict[str, "Tensor"], dict[str, Any]], bytes] = "safetensors"
    """Kind of an exported file: safetensors, or torch.save's; or a function that makes the file's content from the
    tensors by name and the facts about them (scfs.weights.export)."""
    published_as_safetensors: bool = True
    """True if the makers publish .safetensors files; a file with any other ending was written by torch.save."""
    encoders: tuple[str, ...] = ()
    """Keys of an imported file with several encoders, which are also our names of them."""
    required: tuple[str, ...] = ()
    """Encoders that such a file must have."""
    beside: tuple[str, ...] = ()
    """Keys beside the encoders, which are not weights."""
    flat: bool = True
    """True if a file may also be one backbone and nothing else."""
    prefix: str = ""
    """Prefix of the backbone within an encoder."""
    heads: tuple[str, ...] = ()
    """Names of the heads within an encoder."""
    classifier: bool = True
    """True if a backbone may come with its classifier."""

    def name_map(self, backbone: str) -> NameMap | None:
        """Return the names of this backbone's tensors; None if the format does not have the architecture."""
        if self.names is None:
            return NameMap({backbone: backbone}, "classifier")
        return next((names for names in self.names if backbone in names.architectures), None)


def detectron2_pickle(tensors: dict[str, "Tensor"], facts: dict[str, Any]) -> bytes:
    """Return what Detectron2 reads from a .pkl: it finds a detector's names that end as these do.

    The key `scfs` is ours alone; Detectron2 hands it back with what else it does not use.
    """
    from scfs.io.safe_pickle import dump

    model = {key: tensor.numpy() for key, tensor in tensors.items() if not key.endswith(COUNTERS)}
    return dump({"__author__": "scfs", "matching_heuristics": True, "model": model, "scfs": facts})


FORMATS: Registry[WeightFormat] = Registry("format")
for _name, _entry in load_yaml(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")).items():
    _fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in _entry.items()}
    if "names" in _fields:
        _maps = ({**names, "rules": tuple(map(tuple, names.get("rules", ())))} for names in _fields["names"])
        _fields["names"] = tuple(NameMap(**names) for names in _maps)
    if _name == "detectron2":
        _fields["file"] = detectron2_pickle
    FORMATS.add(_name)(WeightFormat(**_fields))

ImportFormat = Annotated[str, NameIn(FORMATS, lambda format: format.imports)]
"""Name of a format that can be imported."""
ExportFormat = Annotated[str, NameIn(FORMATS, lambda format: format.exports)]
"""Name of a format that can be exported."""


def export_formats(backbone: str | None = None) -> list[str]:
    """List the formats that weights can be exported to: those of this architecture, or all."""
    known = [name for name in FORMATS if FORMATS[name].exports]
    return known if backbone is None else [name for name in known if FORMATS[name].name_map(backbone)]


def converted_path(run: str, format: str) -> Path:
    """Return the file that `convert` writes: a run's backbone in a format."""
    return paths.converted(run, f"{format}.{FORMATS[format].ending}")
