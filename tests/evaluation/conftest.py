"""Small data and random weights that the evaluation tests share."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scfs import paths
from scfs.config.data import ImageFolders
from scfs.config.scenes import GarmentScenes
from scfs.data.prepare import prepare
from scfs.evaluation.features import FrozenEncoder
from scfs.model.backbones.resnet import Backbone
from scfs.weights.store import Weights, save_weights

COLOURS = {"blue": (30, 60, 200), "green": (40, 180, 50), "red": (210, 40, 30)}


def write_colours(folder: Path, per_class: int, seed: int) -> None:
    """Images of a noisy class colour, 40 x 48 pixels, in one folder per class."""
    random = np.random.default_rng(seed)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for index in range(per_class):
            pixels = np.clip(np.array(colour) + random.normal(0, 25, (40, 48, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")


def write_weights(path: Path, seed: int) -> None:
    torch.manual_seed(seed)
    tensors = {f"teacher.backbone.{name}": value for name, value in Backbone("narrow_resnet18").state_dict().items()}
    tensors["teacher.classifier.weight"], tensors["teacher.classifier.bias"] = torch.randn(3, 256), torch.randn(3)
    settings = {"backbone": "narrow_resnet18", "seed": seed}
    save_weights(path, tensors, Weights("toy", "0123456789abcdef", settings, "no images", "fp32", sorted(COLOURS)))


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with three data sets and weights."""
    root = tmp_path_factory.mktemp("evaluation")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        write_colours(Path("colours/train"), 14, seed=1)
        write_colours(Path("colours/val"), 5, seed=2)
        Path("flat").mkdir()
        for index, image in enumerate(sorted(Path("colours/val").rglob("*.png"))):
            (Path("flat") / f"{index}.png").write_bytes(image.read_bytes())
        colours = {"train": "colours/train", "val": "colours/val", "unlabelled": "flat"}
        prepare("colours", ImageFolders(source="folder", splits=colours), paths.data_folder("colours"))
        scenes = GarmentScenes(
            source="garment-scenes", splits={"train": {"scenes": 30}, "val": {"scenes": 16, "part": "test"}}
        )
        prepare("scenes", scenes, paths.data_folder("scenes"))
        write_weights(paths.weights("toy"), seed=0)
    return root


@pytest.fixture
def workplace(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The prepared folder as the current one; torch's threads are put back."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.chdir(prepared)
    yield prepared
    torch.set_num_threads(threads)


@pytest.fixture
def encoder() -> FrozenEncoder:
    torch.manual_seed(0)
    backbone = Backbone("narrow_resnet18").eval().requires_grad_(False)
    classifier = torch.nn.Linear(256, 3).requires_grad_(False)
    return FrozenEncoder(
        backbone.to(memory_format=torch.channels_last), torch.device("cpu"), 0, classifier, tuple(sorted(COLOURS))
    )
