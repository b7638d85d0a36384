import numpy as np
import pytest

from scfs.runtime.philox import permutation, philox4x32, seed_key, uniforms

ONES = 0xFFFFFFFF
KNOWN_ANSWERS = [  # Random123's kat_vectors, philox4x32 with 10 rounds: counter, key, result
    ([0, 0, 0, 0], [0, 0], [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([ONES] * 4, [ONES] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_known_answers(counter, key, expected):
    result = philox4x32(np.array(counter, np.uint32), np.array(key, np.uint32))
    assert result.dtype == np.uint32
    assert result.tolist() == expected


def test_vectorised_over_counters_and_keys():
    counters, keys, expected = (np.array(column, np.uint32) for column in zip(*KNOWN_ANSWERS, strict=True))
    np.testing.assert_array_equal(philox4x32(counters, keys), expected)
    grid = philox4x32(counters.reshape(3, 1, 4), keys[0])
    np.testing.assert_array_equal(grid[0, 0], expected[0])
    assert grid.shape == (3, 1, 4)


def test_seed_key_holds_64_bits():
    assert seed_key(2**40 + 3).tolist() == [3, 256]
    assert seed_key(-1).tolist() == [ONES, ONES]


def test_uniforms_reach_neither_below_zero_nor_one():
    assert uniforms(np.array([0, 1, ONES], np.uint32)).tolist() == [0.0, 2.0**-32, 1 - 2.0**-32]


def test_uniforms_are_uniform():
    counter = np.zeros((25000, 4), np.uint32)
    counter[:, 1] = np.arange(25000)
    drawn = uniforms(philox4x32(counter, seed_key(11)))
    for word in drawn.T:
        counts = np.histogram(word, 50, (0, 1))[0]
        assert ((counts - 500) ** 2 / 500).sum() < 100  # chi-square with 49 degrees of freedom: p = 2e-5
    assert np.abs(np.corrcoef(drawn.T) - np.eye(4)).max() < 0.03


def test_permutation():
    order = permutation(0, 0, 1000)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(1000))
    np.testing.assert_array_equal(order, permutation(0, 0, 1000))
    for other in (permutation(1, 0, 1000), permutation(0, 1, 1000), permutation(2**32, 0, 1000)):
        assert (order == other).sum() < 10
    assert abs(np.corrcoef(order, np.arange(1000))[0, 1]) < 0.1


def test_permutation_is_the_same_on_every_machine():
    assert permutation(0, 0, 12).tolist() == [11, 6, 1, 9, 0, 8, 3, 7, 2, 4, 10, 5]
