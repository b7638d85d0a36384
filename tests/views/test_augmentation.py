"""Augmentation parameters: golden values, independence of the batch, distribution.

`python tests/views/test_table.py` writes the golden file anew: only after a deliberate change of STAGE_VERSIONS.
"""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.transforms import RandomResizedCrop

from scfs.config.pretrain import Views
from scfs.views.augmentation import ORDERS, PARAMETERS, augmentation_parameters

GOLDEN = Path(__file__).parent / "golden" / "augmentation_parameters.csv"
GOLDEN_ROWS = np.array([0, 1, 2, 3, 63, 64, 65535, 65536, 1281166, 4000000000])
GOLDEN_SIZES = np.array(
    [(96, 96), (375, 500), (500, 375), (333, 500), (1, 1), (40, 400), (400, 40), (7, 9), (1200, 1600), (20000, 3)]
)
BOX = ["top", "left", "height", "width"]


def golden_parameters() -> np.ndarray:
    return augmentation_parameters(2**33 + 5, 3, GOLDEN_ROWS, GOLDEN_SIZES, Views()).ravel()


def test_golden_rows():
    table = golden_parameters()
    with GOLDEN.open(newline="") as file:
        golden = list(csv.DictReader(file))
    assert len(golden) == len(table) == 100
    for row, expected in zip(table, golden, strict=True):
        assert "".join(map(str, row["order"])) == expected["order"]
        for name in set(PARAMETERS.names) & golden[0].keys():  # those that were added since are below
            if PARAMETERS[name].kind == "f":
                assert row[name] == pytest.approx(float(expected[name]), rel=1e-12, abs=1e-12)
            elif name != "order":
                assert int(row[name]) == int(expected[name]), name


def many(number: int, size: tuple[int, int] = (375, 500), views: Views | None = None, seed: int = 1) -> np.ndarray:
    return augmentation_parameters(seed, 0, np.arange(number), np.tile(size, (number, 1)), views or Views())


def test_a_row_does_not_depend_on_its_batch():
    rng = np.random.default_rng(0)
    rows, sizes = np.arange(50), rng.integers(20, 300, (50, 2))
    whole = augmentation_parameters(3, 7, rows, sizes, Views())
    order = rng.permutation(50)
    assert (augmentation_parameters(3, 7, rows[order], sizes[order], Views()) == whole[order]).all()
    for row in (0, 17, 49):
        assert (augmentation_parameters(3, 7, [row], sizes[[row]], Views())[0] == whole[row]).all()


def test_everything_in_the_key_and_counter_matters():
    base = many(200)
    rows, sizes = np.arange(200), np.tile((375, 500), (200, 1))
    for other in (
        many(200, seed=2),
        augmentation_parameters(1, 1, rows, sizes, Views()),
        augmentation_parameters(1, 0, rows + 1, sizes, Views()),
        augmentation_parameters(1 + 2**32, 0, rows, sizes, Views()),
    ):
        assert np.abs(np.corrcoef(base["brightness"].ravel(), other["brightness"].ravel())[0, 1]) < 0.1
    between_views = np.corrcoef(base["brightness"].T)
    assert np.abs(between_views - np.eye(10)).max() < 0.3


def test_no_local_views():
    table = many(20, views=Views(local_number=0))
    assert table.shape == (20, 2)
    assert (table == many(20)[:, :2]).all()


def test_factors_fill_their_ranges_uniformly():
    table = many(2000)
    for name, low, high in (
        ("brightness", 0.6, 1.4),
        ("contrast", 0.6, 1.4),
        ("saturation", 0.8, 1.2),
        ("hue", -0.1, 0.1),
        ("sigma", 0.1, 2.0),
    ):
        share = (table[name].ravel() - low) / (high - low)
        assert share.min() >= 0 and share.max() <= 1
        assert ks_distance(share, np.linspace(0, 1, 20001)) < 0.015, name


def test_rates():
    views = Views()
    table = many(4000)

    def rate(name: str, slots: slice | int) -> float:
        return float(table[name][:, slots].mean())

    everywhere = slice(None)
    assert rate("flip", everywhere) == pytest.approx(views.flip, abs=0.01)
    assert rate("jitter", everywhere) == pytest.approx(views.jitter, abs=0.01)
    assert rate("grey", everywhere) == pytest.approx(views.grey, abs=0.01)
    assert rate("blur", 0) == 1.0
    assert rate("blur", 1) == pytest.approx(0.1, abs=0.02)
    assert rate("blur", slice(2, None)) == pytest.approx(0.5, abs=0.015)
    assert rate("solarize", 1) == pytest.approx(0.2, abs=0.025)
    assert rate("solarize", 0) == rate("solarize", slice(2, None)) == 0.0


def test_probabilities_of_zero_and_one_are_certain():
    table = many(300, views=Views(flip=0, jitter=1, grey=0, blur=(0, 1, 0), solarize=1))
    assert not table["flip"].any() and table["jitter"].all() and not table["grey"].any()
    assert table["blur"].any(0).tolist() == [False, True] + [False] * 8
    assert table["solarize"].all(0).tolist() == [False, True] + [False] * 8


def test_all_orders_are_equally_likely():
    orders, counts = np.unique(many(2400)["order"].reshape(-1, 4), axis=0, return_counts=True)
    np.testing.assert_array_equal(orders, np.unique(ORDERS, axis=0))
    assert len(orders) == 24
    assert ((counts - 1000) ** 2 / 1000).sum() < 60  # chi-square with 23 degrees of freedom: p = 4e-5


def ks_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Kolmogorov-Smirnov distance of two samples."""
    a, b = np.sort(a), np.sort(b)
    points = np.concatenate((a, b))
    return float(
        np.abs(np.searchsorted(a, points, "right") / len(a) - np.searchsorted(b, points, "right") / len(b)).max()
    )


@pytest.mark.parametrize("slot", [0, 2])
@pytest.mark.parametrize("size", [(375, 500), (96, 96), (40, 75)])
def test_crop_geometry_has_torchvisions_distribution(slot, size):
    number = 3000
    ours = many(number, size)[:, slot]
    ours = np.stack([ours[name] for name in BOX], -1).astype(float)
    scale = (0.25, 1.0) if slot == 0 else (0.05, 0.25)
    torch.manual_seed(0)
    blank = torch.empty(3, *size)
    theirs = np.array([RandomResizedCrop.get_params(blank, scale, (3 / 4, 4 / 3)) for _ in range(number)], float)
    limit = 2.2 * np.sqrt(2 / number)  # p = 1e-4
    H, W = size
    for measure in (
        lambda box: box[:, 2] * box[:, 3],
        lambda box: box[:, 3] / box[:, 2],
        lambda box: box[:, 0],
        lambda box: box[:, 1],
        lambda box: box[:, 0] / np.maximum(H - box[:, 2], 1),
        lambda box: box[:, 1] / np.maximum(W - box[:, 3], 1),
    ):
        assert ks_distance(measure(ours), measure(theirs)) < limit


@pytest.mark.parametrize(
    ("size", "expected"),
    [((30, 3000), (0, 1480, 30, 40)), ((3000, 30), (1480, 0, 40, 30)), ((1, 1000), (0, 499, 1, 1))],
)
def test_central_crop_when_no_trial_fits(size, expected):
    table = many(50, size, Views(global_scale=(0.9, 1.0)))
    assert np.unique(np.stack([table[name][:, 0] for name in BOX], -1), axis=0).tolist() == [list(expected)]
    torch.manual_seed(0)
    assert RandomResizedCrop.get_params(torch.empty(3, *size), (0.9, 1.0), (3 / 4, 4 / 3)) == expected


def test_the_tenth_trial_counts():
    table = many(16, (30, 60), Views(global_scale=(0.6, 1.0)), seed=0)
    assert [int(table[name][15, 0]) for name in BOX] == [0, 23, 30, 37]  # after nine trials: [0, 10, 30, 40]


def test_boxes_lie_inside_and_touch_every_border():
    for size in ((5, 6), (37, 23), (300, 50)):
        table = many(3000, size)
        top, left, height, width = (table[name] for name in BOX)
        assert top.min() == left.min() == 0
        assert (top + height).max() == size[0] and (left + width).max() == size[1]
        assert height.min() > 0 and width.min() > 0


if __name__ == "__main__":
    with GOLDEN.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(PARAMETERS.names)
        for row in golden_parameters():
            writer.writerow(
                "".join(map(str, row[name]))
                if name == "order"
                else repr(row[name].item())
                if PARAMETERS[name].kind == "f"
                else int(row[name])
                for name in PARAMETERS.names
            )


def test_turns_are_independent_and_move_no_other_draw():
    before, after = many(4000), many(4000, views=Views(vertical_flip=0.5, rotate90=0.25))
    others = [name for name in PARAMETERS.names if name not in ("vertical_flip", "rotate90")]
    assert (before[others] == after[others]).all()
    assert not before["vertical_flip"].any() and not before["rotate90"].any()
    flags = [after[name].ravel().astype(float) for name in ("flip", "jitter", "vertical_flip", "rotate90")]
    assert [flag.mean() for flag in flags[2:]] == pytest.approx([0.5, 0.25], abs=0.01)
    assert np.abs(np.corrcoef(flags) - np.eye(4)).max() < 0.02
    certain = many(50, views=Views(vertical_flip=1, rotate90=1))
    assert certain["vertical_flip"].all() and certain["rotate90"].all()
