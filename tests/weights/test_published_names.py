"""Every architecture of a library, in its own size and without values: each tensor has its place in our backbone."""

import pytest
import torch
from layouts import library_model

from scfs.config.weight_formats import FORMATS
from scfs.model.backbones.registry import build_backbone
from scfs.weights.state_dict_matching import match_backbone, match_classifier

PUBLISHED = [
    (library, backbone)
    for library in ("torchvision", "timm")
    for names in FORMATS[library].names or ()
    for backbone in names.architectures
]


@pytest.mark.parametrize(("library", "backbone"), PUBLISHED)
def test_names_and_shapes_fit(library: str, backbone: str) -> None:
    names = FORMATS[library].name_map(backbone)
    assert names is not None
    state = library_model(names.architectures[backbone], library).state_dict()
    theirs = {name: torch.zeros((), dtype=value.dtype).expand(value.shape) for name, value in state.items()}
    with torch.device("meta"):
        ours = build_backbone(backbone).state_dict()
    classifier = match_classifier(theirs, names.classifier, backbone, library)
    assert [len(value) for value in classifier.values()] == [1000, 1000]
    taken = match_backbone(theirs, backbone, names, library)  # raises ScfsError for a tensor too many or too few
    assert {key: value.shape for key, value in taken.items()} == {key: value.shape for key, value in ours.items()}
    assert theirs.keys() == {names(key) for key in ours}


def test_all_are_there() -> None:
    resnets = {"resnet18", "resnet34", "resnet50", "resnet101"}
    assert {name for library, name in PUBLISHED if library == "torchvision"} == {*resnets, "vit_base_16"}
    assert {name for library, name in PUBLISHED if library == "timm"} == {*resnets, "vit_small_16", "vit_base_16"}
