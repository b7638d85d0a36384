"""The data loss (Eq. 1-4) of embeddings and prototypes, with its gradient, without logits of all K prototypes.

Each of the student's crops has a sum of targets T (the other view's of a global crop, both of a local one), whose
entries add up to their number c. With s = z . w / tau for all prototypes w, its term is c * log(sum(exp(s))) -
sum(T * s), and the gradient with respect to s is c * softmax(s) - T. So two passes over the prototypes, block by block,
give the loss and then all gradients, in the forward pass; nothing of size crops x K is stored.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from scfs.model.losses import Reduction
from scfs.runtime.device import autocast_device_type

BLOCK = 8192
"""Prototypes at a time."""


def row_norms(weight: Tensor) -> Tensor:
    """Euclidean norms of rows (K, D): (K,)."""
    return torch.linalg.vector_norm(weight, dim=1)


def prototype_loss(
    embeddings: Tensor,
    weight_v: Tensor,
    weight_g: Tensor,
    targets: Tensor,
    temperature: float,
    reduction: Reduction = "mean",
) -> Tensor:
    """`scfs.model.losses.data_loss` of the logits that `Prototypes` gives, equal up to rounding.

    Under autocast the products are computed in its type, all else in the parameters'.

    Args:
        embeddings: unit vectors of the student's crops, crop-major, the two global ones first, ((2 + N)*B, D).
        weight_v: directions of the prototypes, (K, D).
        weight_g: their lengths, (K, 1), without gradient.
        targets: the teacher's probabilities of the two global crops, (2*B, K).
        temperature: tau.
        reduction: over the 2 + 2*N pairs.
    """
    kind = autocast_device_type(embeddings)
    product = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight_v.dtype
    loss: Tensor = _PrototypeLoss.apply(embeddings, weight_v, weight_g, targets, temperature, reduction, product)
    return loss


class _PrototypeLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        embeddings: Tensor,
        weight_v: Tensor,
        weight_g: Tensor,
        targets: Tensor,
        temperature: float,
        reduction: Reduction,
        product: torch.dtype,
    ) -> Tensor:
        B, K = len(targets) // 2, len(weight_v)
        crops = len(embeddings) // B
        # c of every row, and of each crop the rows of its target: the other view's, or the sum of both.
        number = targets.new_full((len(embeddings), 1), 2.0)
        number[: 2 * B] = 1.0
        kept = targets.unflatten(0, (2, B))
        pairs = 2 * (crops - 1) if reduction == "mean" else 1
        scale = 1 / (pairs * B)
        z = embeddings.to(product)
        with torch.autocast(autocast_device_type(embeddings), enabled=False):
            norms = row_norms(weight_v)
            lengths = weight_g.squeeze(1) / norms
            factors = [weight_v[block].to(product) for block in _blocks(K)]  # converted once for both passes
            parts, of_targets = [], targets.new_zeros(())
            for block, v in zip(_blocks(K), factors, strict=True):
                s = _scaled(z, v, lengths[block], temperature)
                parts.append(s.logsumexp(1))
                of_targets += torch.sum(_sums_of_targets(kept[:, :, block], crops).mul_(s))
            log_sums = torch.stack(parts).logsumexp(0)[:, None]  # R, 1
            loss = ((number * log_sums).sum() - of_targets) * scale
            if any(ctx.needs_input_grad[:2]):
                gradients = _gradients(
                    z, weight_v, factors, lengths, norms, kept, number, log_sums, temperature, ctx.needs_input_grad[1]
                )
                factor = scale / temperature
                ctx.save_for_backward(*(None if g is None else g.mul_(factor) for g in gradients))
                ctx.kind = embeddings.dtype
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        of_embeddings, of_weight = ctx.saved_tensors
        # In place: a gradient made in the forward pass serves one backward pass.
        of_weight = None if of_weight is None else of_weight.mul_(grad)
        return (of_embeddings * grad).to(ctx.kind), of_weight, None, None, None, None, None


def _blocks(prototypes: int) -> list[slice]:
    return [slice(start, start + BLOCK) for start in range(0, prototypes, BLOCK)]


def _scaled(z: Tensor, weight: Tensor, lengths: Tensor, temperature: float) -> Tensor:
    """s of embeddings (R, D) and a block of prototypes (k, D) of `lengths` (k,) times their directions: (R, k)."""
    return (z @ weight.T).to(lengths.dtype).mul_(lengths / temperature)


def _sums_of_targets(targets: Tensor, crops: int) -> Tensor:
    """T of every crop: of targets (2, B, k) the other view's, and for local crops the sum of both, (crops*B, k)."""
    both = (targets[0] + targets[1]).expand(crops - 2, -1, -1)
    return torch.cat([targets[1:], targets[:1], both]).flatten(0, 1)


def _gradients(
    z: Tensor,
    weight_v: Tensor,
    factors: list[Tensor],
    lengths: Tensor,
    norms: Tensor,
    targets: Tensor,
    number: Tensor,
    log_sums: Tensor,
    temperature: float,
    of_weight: bool,
) -> tuple[Tensor, Tensor | None]:
    """With respect to the embeddings (R, D) and to weight_v (K, D), both times tau and the number of pairs.

    So the factors of the products are between -2 and 2, which half precision holds well.
    """
    of_z = lengths.new_zeros(z.shape)
    of_v = torch.empty_like(weight_v) if of_weight else None
    for block, v in zip(_blocks(len(weight_v)), factors, strict=True):
        s = _scaled(z, v, lengths[block], temperature)
        of_s = (
            (s - log_sums).exp_().mul_(number).sub_(_sums_of_targets(targets[:, :, block], len(z) // targets.shape[1]))
        )
        # s = tau^-1 * length * z . v / |v|: what moves v along itself does not change s.
        along = (of_s * s).sum(0).mul_(temperature / norms[block].square())  # k
        of_s = of_s.mul_(lengths[block]).to(z.dtype)
        of_z += of_s @ v
        if of_v is not None:
            torch.addcmul(of_s.T @ z, weight_v[block], along[:, None], value=-1, out=of_v[block])
    return of_z, of_v
