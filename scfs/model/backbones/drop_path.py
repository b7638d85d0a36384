"""Drop path: the residual branches of a ViT that are left out for a crop (stochastic depth; Huang et al., ECCV 2016).

Like augmentation parameters, the numbers depend on (seed, step, image, view, block) alone, so that neither the parts of
a batch, nor the number of processes, nor a resumed run can change them.
"""

import numpy as np
import numpy.typing as npt

from scfs.runtime.philox import philox4x32, seed_key, uniforms

DROP_PATH = 0x80000000
"""Added to the view's number in the third counter word, where augmentation has the number itself."""


def drop_path_factors(
    seed: int, step: int, rows: npt.ArrayLike, views: int, blocks: int, largest: float
) -> npt.NDArray[np.float64]:
    """Draw the factor of each branch's output: 0, or 1 / (1 - p), so that the mean does not change.

    Args:
        seed: the run's seed.
        step: optimiser step.
        rows: (B,) rows of the images in their image set.
        views: crops per image, V.
        blocks: blocks of the ViT.
        largest: p of the last block; p rises linearly from 0 at the first one [DINO].

    Returns:
        (V*B, blocks, 2), crop-major: factors of the attention and of the MLP.
    """
    rows = np.asarray(rows)
    counter = np.empty((views, len(rows), blocks, 4), np.uint32)
    counter[..., 0] = step
    counter[..., 1] = rows[:, None]
    counter[..., 2] = (DROP_PATH + np.arange(views))[:, None, None]
    counter[..., 3] = np.arange(blocks)
    draws = uniforms(philox4x32(counter, seed_key(seed))[..., :2])
    p = np.linspace(0, largest, blocks)[:, None]
    return np.where(draws < p, 0.0, 1 / (1 - p)).reshape(-1, blocks, 2)
