"""A few garment scenes with boxes and masks, an encoder for Detectron2, and a detector trained on them for 6 steps."""

from pathlib import Path

import pytest
import small_detector
from converted_weights import converted, encoder

from scfs import paths
from scfs.config.scenes import GarmentScenes
from scfs.data.prepare import prepare


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Manifest of 6 scenes to train on and 3 to test on."""
    folder = tmp_path_factory.mktemp("boxed")
    splits = {"train": {"scenes": 6, "garments": [1, 3]}, "val": {"scenes": 3, "garments": [1, 3], "part": "test"}}
    prepare("boxed", GarmentScenes.model_validate({"source": "garment-scenes", "splits": splits}), folder)
    return folder / paths.manifest("boxed").name


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return converted(encoder("narrow_resnet18"), tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="session")
def finished(scenes: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder in which a Mask R-CNN was trained and measured without interruption."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        small_detector.run(scenes, weights)
    return folder
