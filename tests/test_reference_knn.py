"""The authors' k-NN, as benchmarks/ has it, against the product's."""

import pytest

from benchmarks import knn, reference_knn


@pytest.mark.parametrize("train", [900, 2500])
def test_accuracies_are_the_same(train: int) -> None:
    given = knn.inputs(train, 200, 512)
    theirs = reference_knn.accuracies(*given, ks=knn.KS, temperature=knn.TEMPERATURE, classes=knn.CLASSES)
    ours = knn.ours(*given)
    assert list(ours) == list(theirs)
    for k, found in ours.items():
        assert found == pytest.approx(theirs[k]), k
    assert 5 < ours[10][0] < ours[10][1] < 95
