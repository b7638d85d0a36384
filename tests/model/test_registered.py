"""A backbone and a pre-training method from outside the package are used by their names like our own."""

import json
import subprocess
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from repository import toy_environment

from scfs.config.backbones import BACKBONES
from scfs.config.methods import METHODS
from scfs.config.pretrain import Pretrain
from scfs.model.backbones.registry import build_backbone
from scfs.model.methods import build_method
from scfs.model.methods.base import MODELS

SCRIPT = """
import json, sys
from pathlib import Path
from scfs.config.pretrain import Pretrain
from scfs.costs.counting import training_work
from scfs.data.sources.folders import image_folder
from scfs.training.pretrain import pretrain
from scfs.weights.store import load_backbone

folder = Path(sys.argv[1])
for method in ("scfs", "toy_method"):
    settings = Pretrain.model_validate({
        "dataset": "noise", "method": method, "backbone": "toy_net", "epochs": 1, "batch": 4,
        "views": {"global_size": 32, "local_size": 16, "local_number": 2},
        "head": {"hidden": 8, "bottleneck": 4, "prototypes": 10},
        "search_head": {"width": 4, "hidden": 8, "output": 4},
        "optimizer": {"warmup_epochs": 0},
    })
    assert training_work(settings).weights > 0
    files = {"weights": folder / f"{method}.safetensors", "result": folder / f"{method}.json"}
    pretrain(method, settings, image_folder(folder / "images"), **files, folder=folder / method, device="cpu")
    backbone, _ = load_backbone(files["weights"], "student")
    print(type(backbone).__module__, backbone.name)
schema = json.dumps(Pretrain.model_json_schema())
print("toy_net" in schema and "toy_method" in schema)
"""


def test_from_outside_the_package(tmp_path: Path) -> None:
    """A short training of our method on the toy backbone, and of the toy method; the plan counts both."""
    (tmp_path / "images").mkdir()
    for index, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (8, 40, 40, 3), dtype=np.uint8)):
        Image.fromarray(pixels).save(tmp_path / "images" / f"{index}.png")
    command = ["warm-python", "-c", SCRIPT, str(tmp_path)]
    environment = toy_environment("backbone_and_method", warm=True)
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-3:] == ["toys.backbone_and_method toy_net"] * 2 + ["True"]
    for method in ("scfs", "toy_method"):
        record = json.loads((tmp_path / f"{method}.json").read_text())
        assert record["settings"]["method"] == method and record["settings"]["backbone"] == "toy_net"
        assert np.isfinite(record["values"]["loss"]) and record["values"]["loss"] > 0


def test_every_name_of_the_settings_can_be_built() -> None:
    assert list(MODELS) == list(METHODS)
    for method in METHODS:
        spec = METHODS[method]
        settings = Pretrain(dataset="none", method=method, backbone="narrow_resnet18", head={"prototypes": 8})
        with torch.device("meta"):
            model = build_method(settings, 5)
        assert model.classes == (5 if spec.labels else 8)
        assert hasattr(model.student, "layer2_head") == spec.layer_heads
    for name in BACKBONES:
        with torch.device("meta"):
            backbone = build_backbone(name)
        assert backbone.name == name and {"layer2", "layer3", "layer4"} <= set(backbone.channels)
