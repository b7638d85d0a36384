"""The k-NN vote against what the authors' released code computes (tests/golden/README.md).

SCFS_GOLDEN names another recording; every size is derived from its arrays.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from scfs.evaluation.knn import Neighbours, vote

GOLDEN = np.load(os.environ.get("SCFS_GOLDEN", Path(__file__).parent / "golden" / "official.npz"))


@pytest.mark.parametrize("block", [1, 7, 10_000])
def test_top1_and_top5_equal_the_authors(block: int) -> None:
    train, test = (F.normalize(torch.from_numpy(GOLDEN[f"knn/{split}_features"]), dim=1) for split in ("train", "test"))
    train_labels, labels = (torch.from_numpy(GOLDEN[f"knn/{split}_labels"]) for split in ("train", "test"))
    ks = GOLDEN["knn/ks"].tolist()
    neighbours = Neighbours(test, max(ks))
    for part, rows in zip(train.split(block), torch.arange(len(train)).split(block), strict=True):
        neighbours.add(part, rows)
    similarities, rows = neighbours.nearest()
    classes = int(max(train_labels.max(), labels.max())) + 1
    found = vote(similarities, train_labels[rows], labels, ks, GOLDEN["knn/temperature"].item(), classes)
    np.testing.assert_allclose([found[k] for k in ks], GOLDEN["knn/top1_top5"], rtol=1e-12)
