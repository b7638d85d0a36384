"""Batches: Detectron2's grouping, whatever the step that one starts at and the workers that read."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_detector import protocol

import scfs.detection.compat  # isort: skip  # noqa: F401

from detectron2.data.common import AspectRatioGroupedDataset

from scfs.detection.batches import BatchOrder, EvaluationImages, TrainingBatches
from scfs.detection.inference import _truth
from scfs.detection.stage import Trial, open_trial
from scfs.errors import ScfsError
from scfs.runtime.philox import permutation
from scfs.runtime.world import World
from scfs.views.workers import prefetch

pytestmark = pytest.mark.detectron2


@pytest.mark.parametrize(("n", "share", "batch"), [(11, 0.4, 2), (7, 0.0, 3), (5, 1.0, 8), (3, 0.5, 8), (40, 0.8, 6)])
def test_grouping_is_detectron2s(n: int, share: float, batch: int) -> None:
    records = [{"width": 2, "height": 1} if row < share * n else {"width": 1, "height": 2} for row in range(n)]
    stream = [{**records[row], "is": (epoch, row)} for epoch in range(30) for row in permutation(5, epoch, n).tolist()]
    expected = [[image["is"] for image in images] for images in AspectRatioGroupedDataset(stream, batch)]
    order = BatchOrder(records, batch, seed=5)
    assert [order[step] for step in range(len(expected))] == expected
    assert order[2] == expected[2] and order[2] == expected[2]  # back again
    assert BatchOrder(records, batch, seed=5)[len(expected) - 1] == expected[-1]
    assert BatchOrder(records, batch, seed=6)[0] != expected[0] or n == 3


def same(one: list, other: list) -> bool:
    """Whether two batches are equal to the last bit."""
    return len(one) == len(other) and all(
        a["image_id"] == b["image_id"]
        and torch.equal(a["image"], b["image"])
        and torch.equal(a["instances"].gt_boxes.tensor, b["instances"].gt_boxes.tensor)
        and torch.equal(a["instances"].gt_masks.tensor, b["instances"].gt_masks.tensor)
        for a, b in zip(one, other, strict=True)
    )


@pytest.fixture
def trial(scenes: Path, weights: Path) -> Trial:
    opened = open_trial(protocol(), "trial-0", "some-run", weights, scenes, torch.device("cpu"), threads=1)
    opened.cfg.INPUT.MIN_SIZE_TRAIN = (48, 56, 64)
    return opened


def test_batches_do_not_depend_on_workers_start_processes_or_numpys_generator(trial: Trial) -> None:
    batches = TrainingBatches(trial.train.records, trial.cfg, seed=3)
    np.random.seed(1)
    expected = [batches[step] for step in range(8)]
    after = np.random.rand()
    np.random.seed(1)
    assert np.random.rand() == after
    for workers in (0, 1):
        fresh = TrainingBatches(trial.train.records, trial.cfg, seed=3)
        assert all(same(*pair) for pair in zip(prefetch(fresh, range(5, 8), workers), expected[5:], strict=True))
    shares = [TrainingBatches(trial.train.records, trial.cfg, 3, World(rank, 2))[4] for rank in range(2)]
    assert [len(share) for share in shares] == [1, 1] and same(shares[0] + shares[1], expected[4])


def test_an_image_is_augmented_anew_each_time(trial: Trial) -> None:
    batches = TrainingBatches(trial.train.records[:1], trial.cfg, seed=0)
    images = [image["image"] for step in range(16) for image in batches[step]]
    assert {image.shape[1] for image in images} == {48, 56, 64}
    whole = [image for image in images if image.shape[1] == 64]
    mirrored = [image for image in whole if torch.equal(image.flip(2), whole[0])]
    assert mirrored and any(torch.equal(image, whole[0]) for image in whole[1:])
    other = [
        image["image"] for step in range(16) for image in TrainingBatches(trial.train.records[:1], trial.cfg, 1)[step]
    ]
    assert [image.shape for image in images] != [image.shape for image in other]


@pytest.mark.parametrize("upright", [True, False])
def test_a_turned_photograph_is_read_as_it_was_annotated(trial: Trial, tmp_path: Path, upright: bool) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned to the right
    stored = np.zeros((64, 96, 3), np.uint8)
    stored[:, :48] = 255
    Image.fromarray(stored).save(tmp_path / "turned.png", exif=exif)
    size = {"width": 64, "height": 96} if upright else {"width": 96, "height": 64}
    record = {"file_name": str(tmp_path / "turned.png"), "image_id": 1, "annotations": [], **size}
    trial.cfg.INPUT.MIN_SIZE_TEST = 64
    (read,) = EvaluationImages([record], trial.cfg)[0]
    white = (read["image"][0] > 128).numpy()
    np.testing.assert_array_equal(white, stored[..., 0].T > 0 if upright else stored[..., 0] > 0)
    shown = _truth(record, trial.cfg, (size["height"], size["width"]))["image"]
    np.testing.assert_array_equal(shown[..., 0] > 128, white)


def test_an_unreadable_image_is_one_line(trial: Trial, tmp_path: Path) -> None:
    record = trial.train.records[0]
    content = Path(record["file_name"]).read_bytes()
    (tmp_path / "short.png").write_bytes(content[: len(content) // 2])
    broken = {
        "gone.png": {},
        "short.png": {},
        record["file_name"]: {"width": 95},
    }
    for name, change in broken.items():
        wrong = {**record, "file_name": str(tmp_path / name), **change}
        with pytest.raises(ScfsError, match=f"{Path(name).name}: cannot be used as annotated: "):
            TrainingBatches([wrong], trial.cfg, 0)[0]
