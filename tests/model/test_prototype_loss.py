"""The data loss without stored logits against the one with them, which the golden file and the slow loops hold."""

import pytest
import torch
from torch import Tensor

from scfs.config.pretrain import ProjectionHead as Settings
from scfs.model.heads import ProjectionHead, Prototypes
from scfs.model.losses import Reduction, data_loss, teacher_probabilities
from scfs.model.ops import prototype_loss as module
from scfs.model.ops.prototype_loss import prototype_loss

B, D, K, TAU = 3, 6, 41, 0.1


def inputs(local_crops: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Prototypes, Tensor]:
    """Embeddings, prototypes of any length, and targets."""
    torch.manual_seed(local_crops)
    prototypes = Prototypes(D, K).to(dtype)
    prototypes.weight_g.data.uniform_(0.5, 2)
    embeddings = torch.nn.functional.normalize(torch.randn((2 + local_crops) * B, D, dtype=dtype), dim=1)
    return embeddings.requires_grad_(), prototypes, torch.softmax(8 * torch.randn(2 * B, K, dtype=dtype), dim=1)


def by_logits(z: Tensor, prototypes: Prototypes, targets: Tensor, reduction: Reduction) -> Tensor:
    weight = torch._weight_norm(prototypes.weight_v, prototypes.weight_g, 0)
    logits = z @ weight.T
    of_local = logits[2 * B :] if len(z) > 2 * B else None
    return data_loss(logits[: 2 * B], of_local, targets, TAU, reduction)


def by_blocks(z: Tensor, prototypes: Prototypes, targets: Tensor, reduction: Reduction) -> Tensor:
    return prototype_loss(z, prototypes.weight_v, prototypes.weight_g, targets, TAU, reduction)


@pytest.mark.parametrize("local_crops", [0, 1, 4])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("block", [1, 16, 41, 1000])
def test_loss_and_gradients(
    local_crops: int, reduction: Reduction, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    z, prototypes, targets = inputs(local_crops)
    found = []
    for loss in (by_logits, by_blocks):
        value = loss(z, prototypes, targets, reduction)
        found.append([value, *torch.autograd.grad(0.7 * value, [z, prototypes.weight_v])])
    for expected, actual in zip(*found, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-11, atol=1e-12)


def test_only_what_is_asked_for_has_a_gradient() -> None:
    z, prototypes, targets = inputs(2)
    prototypes.weight_v.requires_grad_(False)
    by_blocks(z, prototypes, targets, "mean").backward()
    assert z.grad is not None and prototypes.weight_v.grad is None
    with torch.no_grad():
        assert not by_blocks(z, prototypes, targets, "mean").requires_grad


def test_half_precision_is_that_of_the_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 16)
    z, prototypes, targets = inputs(4, torch.float32)
    exact = torch.autograd.grad(by_logits(z, prototypes, targets, "mean"), [z, prototypes.weight_v])
    with torch.autocast("cpu", torch.bfloat16):
        loss = by_blocks(z, prototypes, targets, "mean")
    rough = torch.autograd.grad(loss, [z, prototypes.weight_v])
    for expected, actual in zip(exact, rough, strict=True):
        assert actual.dtype == torch.float32
        error = torch.linalg.vector_norm(actual - expected) / torch.linalg.vector_norm(expected)
        assert 1e-5 < error < 0.03


def test_far_logits_do_not_overflow() -> None:
    z, prototypes, targets = inputs(1, torch.float32)
    prototypes.weight_g.data.fill_(1e4)
    loss = by_blocks(z, prototypes, targets, "mean")
    assert torch.isfinite(loss) and loss > 100
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(loss, [z, prototypes.weight_v]))


def test_no_logits_of_all_prototypes_are_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 4)
    z, prototypes, targets = inputs(4)
    sizes: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        by_blocks(z, prototypes, targets, "mean")
    assert sorted(sizes) == [len(z) * D, K * D]


def test_the_head_s_logits_are_those_of_the_embeddings() -> None:
    torch.manual_seed(0)
    head = ProjectionHead(5, Settings(hidden=7, bottleneck=D, prototypes=K)).double()
    head.last_layer.weight_g.data.uniform_(0.5, 2)
    features = torch.randn(4, 5, dtype=torch.float64)
    z = head.embeddings(features)
    torch.testing.assert_close(torch.linalg.vector_norm(z, dim=1), torch.ones(4, dtype=torch.float64))
    weight = torch._weight_norm(head.last_layer.weight_v, head.last_layer.weight_g, 0)
    torch.testing.assert_close(head(features), z @ weight.T)
    targets = teacher_probabilities(head(features), torch.zeros(1, K, dtype=torch.float64), 0.07)
    torch.testing.assert_close(targets.sum(1), torch.ones(4, dtype=torch.float64))
