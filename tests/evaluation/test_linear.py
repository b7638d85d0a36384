from pathlib import Path

import numpy as np
import pytest

from scfs import paths
from scfs.config.evaluation import Linear
from scfs.data.opening import open_split
from scfs.evaluation import linear
from scfs.evaluation.features import FrozenEncoder
from scfs.views.augmentation import PARAMETERS

PROTOCOL = Linear(kind="linear", dataset="colours", resize=36, crop=32, epochs=2, batch=12, lr=1.0)


def test_every_epoch_crops_every_image_anew(
    workplace: Path, encoder: FrozenEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, tuple[int, ...], bool]] = []
    crop_and_flip = linear._crop_and_flip

    def recording(image: np.ndarray, row: int, crops: np.ndarray, size: int) -> np.ndarray:
        drawn = crops[row]
        seen.append((row, tuple(int(drawn[name]) for name in ("top", "left", "height", "width")), bool(drawn["flip"])))
        return crop_and_flip(image, row, crops, size)

    monkeypatch.setattr(linear, "_crop_and_flip", recording)
    linear.evaluate(PROTOCOL, encoder)
    first, second = seen[:42], seen[42:]
    assert sorted(row for row, *_ in first) == sorted(row for row, *_ in second) == list(range(42))
    assert [row for row, *_ in first] != [row for row, *_ in second]
    boxes = [{row: box for row, box, _ in epoch} for epoch in (first, second)]
    assert sum(boxes[0][row] == boxes[1][row] for row in range(42)) < 4
    areas = np.array([height * width for _, (_, _, height, width), _ in seen]) / (40 * 48)
    assert 0.06 < areas.min() < 0.3 and 0.7 < areas.max() <= 1
    assert 0.3 < np.mean([flip for *_, flip in seen]) < 0.7


def test_drawing_in_parts_changes_no_crop(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = open_split(paths.manifest("colours"), "train")
    whole = linear._crops(3, 1, images, (0.2, 0.8))
    monkeypatch.setattr(linear, "BLOCK", 5)
    assert linear._crops(3, 1, images, (0.2, 0.8)).tobytes() == whole.tobytes()
    assert whole.tobytes() != linear._crops(3, 2, images, (0.2, 0.8)).tobytes()


def test_crop_and_flip_do_what_the_table_says() -> None:
    image = np.random.default_rng(0).integers(0, 256, (10, 12, 3), dtype=np.uint8)
    crops = np.zeros(2, PARAMETERS)
    for name, value in zip(("top", "left", "height", "width"), (2, 3, 6, 6), strict=True):
        crops[name] = value
    crops["flip"] = [False, True]
    plain, mirrored = (linear._crop_and_flip(image, row, crops, 6) for row in (0, 1))
    np.testing.assert_array_equal(plain, image[2:8, 3:9])
    np.testing.assert_array_equal(mirrored, image[2:8, 3:9][:, ::-1])
