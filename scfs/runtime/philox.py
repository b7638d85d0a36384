"""Philox4x32-10, a counter-based random generator: equal counters and keys give equal bits, everywhere.

Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011. It keeps no state between draws, so
that the number of workers, the number of processes or a resumed run cannot change the numbers of an image.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

ROUNDS = 10
MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
KEY_STEPS = (np.uint64(0x9E3779B9), np.uint64(0xBB67AE85))
LOW_32 = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)
PERMUTATION = 0xFFFFFFFF
"""Third counter word of the permutations. Augmentation puts the view's number there, which is always smaller."""


def philox4x32(counter: npt.ArrayLike, key: npt.ArrayLike) -> npt.NDArray[np.uint32]:
    """Apply ten rounds of Philox to every counter.

    Args:
        counter: (..., 4) 32-bit words.
        key: (2,) words for all counters, or (..., 2).

    Returns:
        (..., 4) random words.
    """
    c0, c1, c2, c3 = np.moveaxis(np.asarray(counter, np.uint64), -1, 0)
    k0, k1 = np.moveaxis(np.asarray(key, np.uint64), -1, 0)
    for _ in range(ROUNDS):
        product0, product1 = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0, c2 = (product1 >> HALF) ^ c1 ^ k0, (product0 >> HALF) ^ c3 ^ k1
        c1, c3 = product1 & LOW_32, product0 & LOW_32
        k0, k1 = (k0 + KEY_STEPS[0]) & LOW_32, (k1 + KEY_STEPS[1]) & LOW_32
    return np.stack((c0, c1, c2, c3), -1).astype(np.uint32)


def seed_key(seed: int) -> npt.NDArray[np.uint32]:
    """Return the two key words of a seed (its lower 64 bits)."""
    return np.array([seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF], np.uint32)


def uniforms(words: npt.NDArray[np.uint32]) -> npt.NDArray[np.float64]:
    """Turn words into numbers in [0, 1) with all 32 bits of each word, exact in float64."""
    return words.astype(np.float64) * 2.0**-32


def permutation(seed: int, epoch: int, n: int) -> npt.NDArray[np.int64]:
    """Draw the order of `n` images in an epoch, (n,), by sorting one 64-bit random key per image."""
    counter: npt.NDArray[Any] = np.zeros((n, 4), np.uint32)
    counter[:, 0] = epoch
    counter[:, 1] = np.arange(n)
    counter[:, 2] = PERMUTATION
    words = philox4x32(counter, seed_key(seed)).astype(np.uint64)
    return np.argsort(words[:, 0] << HALF | words[:, 1], kind="stable").astype(np.int64)
