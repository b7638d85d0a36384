"""The factors of drop path: by crop and block alone."""

import numpy as np

from scfs.model.backbones.drop_path import DROP_PATH, drop_path_factors
from scfs.runtime.philox import PERMUTATION


def factors(rows: list[int], seed: int = 3, step: int = 7, views: int = 4, blocks: int = 6) -> np.ndarray:
    """(V, B, blocks, 2)."""
    return drop_path_factors(seed, step, rows, views, blocks, 0.5).reshape(views, len(rows), blocks, 2)


def test_an_images_numbers_do_not_depend_on_the_rest_of_the_batch_or_on_other_views() -> None:
    whole = factors(list(range(10, 40)))
    np.testing.assert_array_equal(factors(list(range(20, 30))), whole[:, 10:20])
    np.testing.assert_array_equal(factors([35, 12]), whole[:, [25, 2]])
    np.testing.assert_array_equal(factors(list(range(10, 40)), views=2), whole[:2])


def test_everything_that_should_matter_does() -> None:
    rows = list(range(64))
    first = factors(rows)
    others = [factors(rows, seed=4), factors(rows, step=8), factors([row + 64 for row in rows])]
    assert not any(np.array_equal(first, other) for other in others)
    kept = first[..., 3:, :] > 0
    assert len({kept[view].tobytes() for view in range(4)}) == 4
    assert len({kept[:, :, block].tobytes() for block in range(3)}) == 3
    assert not np.array_equal(kept[..., 0], kept[..., 1])  # the two branches of a block


def test_shares_rise_linearly_and_means_stay() -> None:
    drawn = factors(list(range(3000)))
    expected = np.linspace(0, 0.5, 6)
    assert set(np.unique(drawn[:, :, 5])) == {0.0, 2.0}
    np.testing.assert_array_equal(drawn[:, :, 0], 1.0)
    np.testing.assert_allclose((drawn == 0).mean((0, 1, 3)), expected, atol=0.01)
    np.testing.assert_allclose(drawn.mean((0, 1, 3)), 1.0, atol=0.02)


def test_counters_are_those_of_no_other_draw() -> None:
    """Augmentation has the view's number where this has DROP_PATH more, and permutations have PERMUTATION there."""
    assert 2**20 < DROP_PATH < PERMUTATION - 2**20
