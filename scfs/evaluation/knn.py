"""Weighted k-NN classification (Wu et al., CVPR 2018), as DINO's and the authors' code computes it; also by layers.

The training features are never held together: they pass by in blocks, and every query keeps its k best so far. Several
processes take the blocks in turn, and join what each has found.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from scfs.config.evaluation import Knn, KnnProtocol, Layers
from scfs.data.manifest import ImageSet
from scfs.errors import ScfsError
from scfs.evaluation.features import BLOCK, FEATURE, FrozenEncoder, blocks_of, clean_view, extract, own_features
from scfs.evaluation.ranks import ranks_of_true_class
from scfs.evaluation.result import EvaluationResult, evaluates, open_labelled
from scfs.runtime import collectives

QUERIES = 1024
"""Queries that are compared or voted on at a time."""
LOW_32_BITS = 0xFFFFFFFF
NOBODY = torch.iinfo(torch.int64).min
"""Key that is less than any neighbour's."""

Accuracy = tuple[float, float]
"""Top-1 and top-5 in percent."""


class Neighbours:
    """The k nearest of all features that the processes have seen, for every query.

    Equal similarities are ordered by row, so that neither the blocks nor torch.topk decide: similarity and row are
    joined to one 64-bit integer whose order is that of (similarity, -row).
    """

    def __init__(self, queries: Tensor, k: int) -> None:
        """Take queries (m, C), compared as they are, and the number of neighbours.

        Raises:
            ScfsError: a query is not finite.
        """
        if not torch.isfinite(queries).all():
            raise ScfsError("k-NN: the feature of a test image is not finite")
        self.queries = queries
        self._best = torch.full((len(queries), k), NOBODY, device=queries.device)

    def add(self, features: Tensor, rows: Tensor, lengths: Tensor | None = None) -> None:
        """Compare with further features (c, C) of rows (c,), divided by their lengths (c,) if those are given.

        A quotient for each pair takes less than making unit vectors first, by two passes over the features.

        Raises:
            ScfsError: a feature is not finite.
        """
        # A sum or length is not finite if a number is not.
        if not (sound := torch.isfinite(features.sum(1) if lengths is None else lengths)).all():
            raise ScfsError(f"k-NN: the feature of training image {rows[~sound.cpu()][0]} is not finite")
        rows = rows.to(features.device)
        for queries, so_far in zip(self.queries.split(QUERIES), self._best.split(QUERIES), strict=True):
            similarity = queries @ features.T
            if lengths is not None:
                similarity /= lengths
            so_far.copy_(_better(so_far, similarity, rows))

    def nearest(self) -> tuple[Tensor, Tensor]:
        """Return similarities (m, k) float32 and rows (m, k), nearest first, on the CPU, of k features seen or more."""
        of_processes = (collectives.all_gather(own).transpose(0, 1).flatten(1) for own in self._best.split(QUERIES))
        best = torch.cat([keys.topk(self._best.shape[1]).values for keys in of_processes]).cpu()
        return _similarity_of(best), LOW_32_BITS - (best & LOW_32_BITS)


def _better(so_far: Tensor, similarity: Tensor, rows: Tensor) -> Tensor:
    """Select the best keys (m, k), greatest first, of those so far (m, k) and those of further similarities (m, c).

    After the first blocks few features are as near as the k-th one so far: keys are made and ordered of those alone.
    """
    last = so_far[:, -1:]
    near = similarity >= _similarity_of(last).where(last != NOBODY, -torch.inf)
    query, column = near.nonzero(as_tuple=True)
    if not len(query):
        return so_far
    counts = query.bincount(minlength=len(so_far))
    most = int(counts.max())
    if 4 * most > len(rows):
        keys = _sortable(similarity, rows)
    else:
        place = torch.arange(len(query), device=query.device) - (counts.cumsum(0) - counts)[query]
        keys = so_far.new_full((len(so_far), most), NOBODY)
        keys[query, place] = _sortable(similarity[query, column], rows[column])
    return torch.cat([so_far, keys], dim=1).topk(so_far.shape[1]).values


def _sortable(similarity: Tensor, rows: Tensor) -> Tensor:
    """Join float32 similarities (..., c) and their rows (c,) to int64 keys (..., c)."""
    bits = (similarity + 0.0).view(torch.int32)  # + 0.0 turns -0 into 0
    return (_flipped_if_negative(bits).long() << 32) | (LOW_32_BITS - rows)


def _similarity_of(keys: Tensor) -> Tensor:
    """Extract the similarities from keys."""
    return _flipped_if_negative((keys >> 32).int()).view(torch.float32)


def _flipped_if_negative(bits: Tensor) -> Tensor:
    """Convert float bits to integers of the same order, or back: negative floats grow downwards as integers."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def lengths(features: Tensor) -> Tensor:
    """Compute the Euclidean norms (c,) of features (c, C); above 0, as F.normalize has them."""
    return torch.linalg.vector_norm(features, dim=1).clamp_min(1e-12)


def nearest(train: Tensor, test: Tensor, k: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Find the k nearest of features that are held whole, on all processes: train (n, C), test (m, C), on the CPU.

    Returns:
        See `Neighbours.nearest`.
    """
    neighbours = Neighbours(F.normalize(test.to(device), dim=1), k)
    for rows in collectives.round_robin(torch.arange(len(train)).split(BLOCK)):
        own = train[rows].to(device)
        neighbours.add(own, rows, lengths(own))
    return neighbours.nearest()


def vote_weights(similarities: Tensor, temperature: float) -> Tensor:
    """Compute exp(s / T) of similarities (m, k) relative to the nearest one: no order changes, nothing overflows."""
    similarities = similarities.double()
    return ((similarities - similarities[:, :1]) / temperature).exp()


def vote(
    similarities: Tensor, neighbour_labels: Tensor, labels: Tensor, ks: Sequence[int], temperature: float, classes: int
) -> dict[int, Accuracy]:
    """Compute the accuracies of the weighted vote for each k.

    Top-5 counts the first min(5, k) classes, as in the authors' code.

    Args:
        similarities: cosine similarities (m, K), nearest first, K at least the largest of `ks`.
        neighbour_labels: the neighbours' classes, (m, K).
        labels: the true classes, (m,).
        ks: numbers of neighbours.
        temperature: T; a neighbour of similarity s has the weight exp(s / T).
        classes: number of classes.
    """
    weights = vote_weights(similarities, temperature)
    accuracies = {}
    for k in ks:
        parts = zip(
            weights[:, :k].split(QUERIES), neighbour_labels[:, :k].split(QUERIES), labels.split(QUERIES), strict=True
        )
        ranks = torch.cat([_ranks_by_vote(*part, classes) for part in parts])
        top1, top5 = (100.0 * (ranks < first).sum().item() / len(ranks) for first in (1, min(5, k)))
        accuracies[k] = (top1, top5)
    return accuracies


def scores_by_vote(weights: Tensor, neighbour_labels: Tensor, classes: int) -> Tensor:
    """Sum the weights of the neighbours (m, k) of each class: (m, classes)."""
    return weights.new_zeros(len(weights), classes).scatter_add_(1, neighbour_labels, weights)


def _ranks_by_vote(weights: Tensor, neighbour_labels: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Rank the true classes (m,) by the sums of their neighbours' weights (m, k)."""
    return ranks_of_true_class(scores_by_vote(weights, neighbour_labels, classes), labels)


def knn_per_layer(
    protocol: KnnProtocol, encoder: FrozenEncoder, layers: Sequence[str]
) -> tuple[dict[str, dict[int, Accuracy]], tuple[ImageSet, ImageSet]]:
    """Classify by the pooled map of each layer, in one pass over the images.

    Returns:
        layer -> k -> accuracies, and the train and test splits.

    Raises:
        ScfsError: a split without labels, different classes, or fewer training images than neighbours.
    """
    train, test = open_labelled(protocol)
    largest = max(protocol.k)
    if largest > len(train):
        raise ScfsError(f"k = {largest}: {train.name}/{train.split} has only {len(train)} images to be neighbours")
    show = clean_view(protocol)
    queries = extract(encoder, test, layers, show)
    neighbours = {
        layer: Neighbours(F.normalize(features.to(encoder.device), dim=1), largest)
        for layer, features in queries.items()
    }
    blocks = blocks_of(train)
    own = own_features(encoder, train, layers, show, blocks, "features of")
    for of_block, block in zip(collectives.round_robin(blocks), own, strict=True):
        for layer, features in block.items():
            neighbours[layer].add(features, torch.from_numpy(of_block), lengths(features))
    train_labels, labels = (torch.from_numpy(split.require_labels()) for split in (train, test))
    accuracies = {}
    for layer in layers:
        similarities, rows = neighbours[layer].nearest()
        accuracies[layer] = vote(
            similarities, train_labels[rows], labels, protocol.k, protocol.temperature, len(train.classes)
        )
    return accuracies, (train, test)


@evaluates(Knn)
def evaluate(protocol: Knn, encoder: FrozenEncoder) -> EvaluationResult:
    """Compute the k-NN accuracy of the image's feature: `top1` and `top5` at `report_k`, `top1_k10`, ... at each k."""
    accuracies, splits = knn_per_layer(protocol, encoder, [FEATURE])
    by_k = accuracies[FEATURE]
    top1, top5 = by_k[protocol.report_k]
    each = {f"{name}_k{k}": value for k in protocol.k for name, value in zip(("top1", "top5"), by_k[k], strict=True)}
    return EvaluationResult(values={"top1": top1, "top5": top5, **each}, splits=splits)


@evaluates(Layers)
def evaluate_layers(protocol: Layers, encoder: FrozenEncoder) -> EvaluationResult:
    """Compute top-1 in percent at `report_k` for each layer's pooled map, under the layer's name (the paper's Fig. 4).

    Raises:
        ScfsError: the backbone has no such layer.
    """
    for layer in protocol.layers:
        if layer not in encoder.backbone.channels:
            allowed = sorted(encoder.backbone.channels)
            raise ScfsError(f"layers: {layer!r}: not among {allowed}, which backbone {encoder.backbone.name} has")
    accuracies, splits = knn_per_layer(protocol, encoder, protocol.layers)
    return EvaluationResult(
        values={layer: accuracies[layer][protocol.report_k][0] for layer in protocol.layers}, splits=splits
    )
