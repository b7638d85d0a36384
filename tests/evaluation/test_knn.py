import math

import numpy as np
import pytest
import torch
from torch import Tensor

from scfs.errors import ScfsError
from scfs.evaluation import knn
from scfs.evaluation.knn import Neighbours, lengths, vote


def neighbours_in_blocks(queries: Tensor, features: Tensor, k: int, block: int) -> tuple[Tensor, Tensor]:
    neighbours = Neighbours(queries, k)
    for part, rows in zip(features.split(block), torch.arange(len(features)).split(block), strict=True):
        neighbours.add(part, rows)
    return neighbours.nearest()


def vote_by_loops(
    queries: np.ndarray, features: np.ndarray, labels: np.ndarray, truth: np.ndarray, k: int, T: float, classes: int
) -> tuple[float, float]:
    """Wu et al.'s vote, one query and one neighbour at a time."""
    hits1 = hits5 = 0
    for query, true in zip(queries, truth, strict=True):
        cosines = [float(query @ f / np.linalg.norm(query) / np.linalg.norm(f)) for f in features]
        scores = [0.0] * classes
        for row in sorted(range(len(features)), key=lambda row: -cosines[row])[:k]:
            scores[labels[row]] += math.exp(cosines[row] / T)
        ranking = sorted(range(classes), key=lambda c: (-scores[c], c))
        hits1 += ranking[0] == true
        hits5 += true in ranking[: min(5, k)]
    return 100 * hits1 / len(truth), 100 * hits5 / len(truth)


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_vote_equals_loops(temperature: float) -> None:
    random = np.random.default_rng(3)
    labels, truth = random.integers(0, 8, 61), random.integers(0, 8, 37)
    centres = random.normal(size=(8, 6))
    features = (centres[labels] + 2 * random.normal(size=(61, 6))).astype(np.float32)
    queries = (centres[truth] + 2 * random.normal(size=(37, 6))).astype(np.float32)
    ks = (1, 3, 10, 61)
    unit = [torch.nn.functional.normalize(torch.from_numpy(x), dim=1) for x in (queries, features)]
    similarities, rows = neighbours_in_blocks(unit[0], unit[1], max(ks), block=16)
    found = vote(similarities, torch.from_numpy(labels)[rows], torch.from_numpy(truth), ks, temperature, 8)
    for k in ks:
        expected = vote_by_loops(queries.astype(float), features.astype(float), labels, truth, k, temperature, 8)
        assert found[k] == pytest.approx(expected), k
    assert 20 < found[10][0] < found[10][1] < 100


@pytest.mark.parametrize("block", [1, 5, 16, 1000])
@pytest.mark.parametrize("queries_at_a_time", [3, 1024])
def test_neighbours_depend_on_no_block_even_with_ties(
    block: int, queries_at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Small integers make sums exact and ties frequent, of either sign.
    monkeypatch.setattr(knn, "QUERIES", queries_at_a_time)
    random = np.random.default_rng(0)
    queries, features = (random.integers(-1, 2, (n, 3)).astype(np.float32) for n in (10, 50))
    similarities, rows = neighbours_in_blocks(torch.from_numpy(queries), torch.from_numpy(features), 20, block)
    products = queries @ features.T
    expected = np.stack([np.lexsort((np.arange(50), -line))[:20] for line in products])
    assert (products < 0).any() and (np.diff(np.sort(products, axis=1)) == 0).any()
    np.testing.assert_array_equal(rows.numpy(), expected)
    np.testing.assert_array_equal(similarities.numpy(), np.take_along_axis(products, expected, axis=1))


def test_many_blocks_keep_the_nearest_in_any_order() -> None:
    """Far more features than neighbours, the nearest ones last or first: few of a block are looked at, or all."""
    random = np.random.default_rng(1)
    queries, features = (torch.from_numpy(random.normal(size=(n, 8)).astype(np.float32)) for n in (7, 3000))
    features = features[(features @ queries[0]).argsort()]
    for ordered in (features, features.flip(0), features[torch.randperm(3000)]):
        similarities, rows = neighbours_in_blocks(queries, ordered, 9, block=100)
        expected = (queries.double() @ ordered.T.double()).topk(9)
        assert torch.equal(rows, expected.indices)
        torch.testing.assert_close(similarities.double(), expected.values, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_feature_that_is_not_finite_is_no_neighbour_but_an_error(value: float) -> None:
    features = torch.ones(6, 2)
    features[4, 1] = value
    for divisors in (None, lengths(features)):
        with pytest.raises(ScfsError, match="the feature of training image 14 is not finite"):
            Neighbours(torch.ones(1, 2), 1).add(features, torch.arange(10, 16), divisors)
    with pytest.raises(ScfsError, match="the feature of a test image is not finite"):
        Neighbours(features, 1)


def test_divided_by_their_lengths_features_are_unit_vectors() -> None:
    random = np.random.default_rng(2)
    features = torch.from_numpy(random.normal(size=(100, 8)).astype(np.float32)) * torch.logspace(-9, 9, 100)[:, None]
    features[7] = 0  # as far from everything as from itself
    queries = torch.from_numpy(random.normal(size=(5, 8)).astype(np.float32))
    unit = torch.nn.functional.normalize(features.double(), dim=1)
    neighbours = Neighbours(queries, 100)
    neighbours.add(features, torch.arange(100), lengths(features))
    similarities, rows = neighbours.nearest()
    expected = (queries.double() @ unit.T).sort(descending=True)
    assert torch.equal(rows, expected.indices)
    torch.testing.assert_close(similarities.double(), expected.values, rtol=1e-5, atol=1e-6)


def test_similarities_come_back_bit_by_bit() -> None:
    values = torch.tensor([[1.0], [-1.0], [0.3], [-0.3], [1e-30], [-1e-30], [0.0], [1e20]])
    similarities, rows = neighbours_in_blocks(torch.ones(1, 1), values, 8, block=3)
    assert rows.tolist() == [[7, 0, 2, 4, 6, 5, 3, 1]]
    assert torch.equal(similarities[0], values[rows[0], 0])


def test_equal_scores_go_to_the_lower_class() -> None:
    similarities = torch.tensor([[0.5, 0.5], [0.5, 0.5]])
    neighbour_labels = torch.tensor([[2, 1], [1, 2]])
    assert vote(similarities, neighbour_labels, torch.tensor([1, 1]), [2], 0.07, 3)[2][0] == 100.0
    assert vote(similarities, neighbour_labels, torch.tensor([2, 2]), [2], 0.07, 3)[2][0] == 0.0


def test_top5_of_fewer_classes_is_always_right() -> None:
    accuracies = vote(torch.zeros(3, 5), torch.zeros(3, 5, dtype=torch.long), torch.tensor([1, 2, 3]), [5], 0.07, 4)
    assert accuracies[5] == (0.0, 100.0)


def test_a_tiny_temperature_does_not_overflow() -> None:
    similarities = torch.tensor([[0.9, 0.8, 0.8]])
    labels = torch.tensor([[0, 1, 1]])
    assert vote(similarities, labels, torch.tensor([0]), [3], 1e-4, 2)[3][0] == 100.0
    assert vote(similarities, labels, torch.tensor([1]), [3], 10.0, 2)[3][0] == 100.0
