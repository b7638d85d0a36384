"""Behaviour of the expensive stage and its VERSION move together.

Some float64 steps of every method, the order of images, the augmentation table and the pixels of a batch are compared
with tests/fingerprint.json. A refactoring leaves them as they are; whoever changes what training computes raises STAGE_VERSIONS["pretrain"] and runs `make fingerprint`.
"""

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from scfs.config.identity import STAGE_VERSIONS
from scfs.config.pretrain import Pretrain
from scfs.model.losses import PRESETS, Preset
from scfs.training.loop import Labels, Pretraining
from scfs.views import colour, loader
from scfs.views.augmentation import augmentation_parameters
from scfs.views.loader import Batch, ViewBatches

FILE = Path(__file__).parent / "fingerprint.json"
METHODS: dict[str, dict[str, Any]] = {
    "scfs": {"method": "scfs"},
    "dino": {"method": "dino"},
    "dino_ml": {"method": "dino_ml"},
    "roi_crop": {"method": "roi_crop"},
    "supervised": {"method": "supervised"},
    "vit": {"method": "scfs", "backbone": "narrow_vit_8", "drop_path": 0.3},
}
SETTINGS = {
    "dataset": "noise",
    "backbone": "narrow_resnet18",
    "epochs": 3,
    "batch": 4,
    "views": {"global_size": 64, "local_size": 32, "local_number": 2},
    "head": {"hidden": 16, "bottleneck": 8, "prototypes": 24},
    "search_head": {"width": 8, "hidden": 16, "output": 8},
    "loss": {"teacher_temperature_warmup": 2},
    "optimizer": {"warmup_epochs": 1},
}
COLOURFUL = {
    **{"global_size": 48, "local_size": 32, "local_number": 2, "flip": 0.7, "jitter": 0.8, "hue": 0.3},
    **{"grey": 0.3, "blur": (0.8, 0.8, 0.8), "sigma": (1.0, 3.0), "solarize": 0.8},
}
TURNS = ("vertical_flip", "rotate90")
"""What views may do since the recording, and do not by default."""
PIXEL_TOLERANCE = 0.05
"""Of 255: single pixels may be rounded otherwise on another CPU."""


def noise(step: int, crops: int, size: int) -> torch.Tensor:
    pixels = np.random.default_rng([step, size]).integers(0, 256, (crops * 4, size, size, 3), dtype=np.uint8)
    return torch.from_numpy(pixels)


CROP_BOXES = [(0, 0, 60, 60, 0), (20, 30, 50, 60, 1), (10, 20, 30, 30, 0), (40, 50, 30, 40, 1)]
"""Boxes of the crops of every image."""


def steps(method: str) -> dict[str, list[float]]:
    """All terms of three steps, and the teacher's parameters summed at the end."""
    labels = Labels(torch.tensor([0, 1, 2, 1]), 3) if method == "supervised" else None
    settings = Pretrain.model_validate(SETTINGS | METHODS[method])
    training = Pretraining(settings, 1, torch.device("cpu"), "fp64", "", labels)
    crop_boxes = torch.tensor(CROP_BOXES, dtype=torch.int32)[:, None].expand(-1, 4, -1)
    seen: dict[str, list[float]] = {}
    for step in range(3):
        batch = Batch(step, torch.arange(4), noise(step, 2, 64), noise(step, 2, 32), crop_boxes)
        for name, value in training.train_step(batch).items():
            seen.setdefault(name, []).append(value.item())
    seen["teacher"] = [parameter.abs().sum().item() for parameter in training.model.teacher.parameters()]
    return seen


def views() -> dict[str, list[float]]:
    """What the augmentation table draws."""
    settings = Pretrain.model_validate(SETTINGS).views
    table = augmentation_parameters(0, 1, np.arange(8), np.full((8, 2), 96), settings)
    assert not any(table[name].any() for name in TURNS)
    names = [name for name in table.dtype.names if name not in TURNS]
    return {name: np.asarray(table[name], dtype=float).sum((0, 1)).reshape(-1).tolist() for name in names}


class Ripples:
    """What the loader uses of an image set: eight coloured interference patterns, no two regions alike."""

    name, split, root = "ripples", "pretrain", Path("ripples")

    def __init__(self) -> None:
        self.paths = [f"{row}.png" for row in range(8)]
        self.heights, self.widths = np.full(8, 96, np.int32), np.full(8, 80, np.int32)

    def __len__(self) -> int:
        return len(self.paths)

    def where(self, row: int) -> str:
        return self.paths[row]

    def read(self, row: int) -> bytes:
        y, x = np.mgrid[:96, :80] / 80
        waves = [np.sin((5 + row) * x * (x + c) + (9 - row) * y + c) + np.cos(40 * (c + 1) * x * y) for c in range(3)]
        pixels = np.rint(127.5 + 63.5 * np.stack(waves, axis=-1)).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        return file.getvalue()


def order() -> list[int]:
    """Order of 16 images in an epoch, as the loader draws it, and which images a batch of it holds."""
    return [*loader.permutation(0, 1, 16).tolist(), *colourful_batch().rows.tolist()]


def colourful_batch() -> Batch:
    settings = Pretrain.model_validate(SETTINGS | {"views": COLOURFUL}).views
    return ViewBatches(Ripples(), settings, 4, 2, 0)[3]  # type: ignore[arg-type]


def pixels() -> dict[str, list[float]]:
    """Means of the left and of the right half of each crop, and its standard deviation, by colour channel."""
    batch = colourful_batch()
    assert batch.local_crops is not None
    crops = [crop.double() for part in (batch.global_crops, batch.local_crops) for crop in part]
    halves = {
        "left": [crop[:, : len(crop) // 2] for crop in crops],
        "right": [crop[:, len(crop) // 2 :] for crop in crops],
    }
    seen = {name: torch.stack([half.mean((0, 1)) for half in parts]) for name, parts in halves.items()}
    seen["deviation"] = torch.stack([crop.std((0, 1)) for crop in crops])
    return {name: [round(value, 3) for value in values.flatten().tolist()] for name, values in seen.items()}


def fingerprint() -> dict:
    torch.set_num_threads(1)
    sums = {"views": views(), **{method: steps(method) for method in METHODS}}
    return {"version": STAGE_VERSIONS["pretrain"], "order": order(), "pixels": pixels(), **sums}


def same_pixels(recorded: dict[str, list[float]]) -> bool:
    return all(values == pytest.approx(recorded[name], rel=0, abs=PIXEL_TOLERANCE) for name, values in pixels().items())


def test_behaviour_is_that_of_the_version() -> None:
    ours = fingerprint()
    if "SCFS_WRITE_FINGERPRINT" in os.environ:
        FILE.write_text(json.dumps(ours, indent=1) + "\n")
    recorded = json.loads(FILE.read_text())
    assert ours["version"] == recorded["version"], "the version was raised: record it with `make fingerprint`"
    assert ours["order"] == recorded["order"], "order of the images: raise STAGE_VERSIONS['pretrain']"
    assert same_pixels(recorded["pixels"]), "pixels of the crops: raise STAGE_VERSIONS['pretrain']"
    for part in ("views", *METHODS):
        assert set(ours[part]) == set(recorded[part]), f"{part}: raise STAGE_VERSIONS['pretrain']"
        for name, values in ours[part].items():
            message = f"{part}.{name} changed: raise STAGE_VERSIONS['pretrain'] and run `make fingerprint`"
            assert values == pytest.approx(recorded[part][name], rel=1e-9, abs=1e-12), message


def test_a_changed_behaviour_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    before = steps("scfs")
    changed = Preset(searched_views=1, reduction="mean", layer_weights=(0.5, 0.4999))
    monkeypatch.setitem(PRESETS, "official", changed)
    after = steps("scfs")
    assert after["loss"] != pytest.approx(before["loss"], rel=1e-9)


def test_another_order_of_the_images_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = json.loads(FILE.read_text())
    monkeypatch.setattr(loader, "permutation", lambda seed, epoch, n: np.arange(n))
    assert order() != recorded["order"]
    assert not same_pixels(recorded["pixels"])


@pytest.mark.parametrize("operation", ["flip", "_jitter", "shift_hue", "saturate", "grey", "blur", "solarize"])
def test_a_lost_operation_is_seen(operation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if operation in ("flip", "grey"):
        monkeypatch.setitem(COLOURFUL, operation, 0.0)
    else:
        lost = getattr(colour, operation)
        monkeypatch.setattr(colour, operation, lambda *arguments: None)
        for number, (name, change) in colour.JITTER.items():
            monkeypatch.setitem(colour.JITTER, number, (name, (lambda *_: None) if change is lost else change))
    assert not same_pixels(json.loads(FILE.read_text())["pixels"])


def test_a_shifted_crop_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded, crop_resize = json.loads(FILE.read_text())["pixels"], loader.crop_resize

    def shifted(image: np.ndarray, box: tuple[int, int, int, int], size: int, out: np.ndarray) -> np.ndarray:
        return crop_resize(np.roll(image, 1, axis=1), box, size, out)

    monkeypatch.setattr(loader, "crop_resize", shifted)
    assert not same_pixels(recorded)
