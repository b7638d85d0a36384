"""The data loss from embeddings and prototypes, with its gradients, without storing the logits of all K prototypes.

Each crop of the student has a sum of targets T (the other view's for a
global crop, both for a local one), whose entries sum to the count c. With s = z . w / tau for all prototypes w, its
term is c * log(sum(exp(s))) - sum(T * s), and the gradient with respect to s is c * softmax(s) - T. Two passes over
blocks of prototypes give the loss and then all gradients, both in the forward pass; no tensor of size crops x K is
kept.

Shapes: R rows = (2 + N)*B crops, K prototypes, k prototypes of a block, D dimensions of an embedding.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from scfs.model.losses import Reduction
from scfs.runtime.device import autocast_device_type

BLOCK = 8192
"""Number of prototypes that are computed at a time."""


def prototype_loss(
    embeddings: Tensor, weight_v: Tensor, weight_g: Tensor, targets: Tensor, temperature: float, reduction: Reduction
) -> Tensor:
    """Compute `scfs.model.losses.data_loss` (Eq. 4) of the logits that `scfs.model.heads.Prototypes` gives.

    Equal up to rounding. Under autocast the products are computed in its type, everything else in the parameters' type.

    Args:
        embeddings: unit vectors of the student's crops, crop-major, the two global ones first, (R, D).
        weight_v: directions of the prototypes, (K, D).
        weight_g: their lengths, (K, 1), without gradient.
        targets: the teacher's probabilities of the two global crops, (2*B, K).
        temperature: tau.
        reduction: mean or sum over the 2 + 2*N pairs.
    """
    kind = autocast_device_type(embeddings)
    product = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight_v.dtype
    crops = 2 * len(embeddings) // len(targets)
    pairs = 2 * (crops - 1) if reduction == "mean" else 1
    loss: Tensor = _PrototypeLoss.apply(embeddings, weight_v, weight_g, targets, temperature, pairs, product)
    return loss


class _PrototypeLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, embeddings: Tensor, weight_v: Tensor, weight_g: Tensor, targets: Tensor, *options: Any
    ) -> Tensor:
        """Compute the loss, and in a second pass its gradients; options: tau, number of pairs, type of products."""
        temperature, pairs, product = options
        B, K = len(targets) // 2, len(weight_v)
        crops = len(embeddings) // B
        count = targets.new_full((len(embeddings), 1), 2.0)  # c of every row
        count[: 2 * B] = 1.0
        kept = targets.unflatten(0, (2, B))
        scale = 1 / (pairs * B)
        z = embeddings.to(product)
        with torch.autocast(autocast_device_type(embeddings), enabled=False):
            norms = torch.linalg.vector_norm(weight_v, dim=1)
            lengths = weight_g.squeeze(1) / norms
            blocks = [slice(start, start + BLOCK) for start in range(0, K, BLOCK)]
            factors = [weight_v[block].to(product) for block in blocks]  # converted once for both passes
            parts, target_sum = [], targets.new_zeros(())
            for block, v in zip(blocks, factors, strict=True):
                s = _scaled(z, v, lengths[block], temperature)
                parts.append(s.logsumexp(1))
                target_sum += torch.sum(_target_sums(kept[:, :, block], crops).mul_(s))
            log_sums = torch.stack(parts).logsumexp(0)[:, None]  # R, 1
            loss = ((count * log_sums).sum() - target_sum) * scale
            if not any(ctx.needs_input_grad[:2]):
                return loss
            # Without the factor `scale / tau`, what is multiplied is between -2 and 2, which half precision has well.
            grad_z = lengths.new_zeros(z.shape)
            grad_v = torch.empty_like(weight_v) if ctx.needs_input_grad[1] else None
            for block, v in zip(blocks, factors, strict=True):
                s = _scaled(z, v, lengths[block], temperature)
                grad_s = (s - log_sums).exp_().mul_(count).sub_(_target_sums(kept[:, :, block], crops))
                # s = length * z . v / (tau * |v|): the gradient has no component along v.
                along = (grad_s * s).sum(0).mul_(temperature / norms[block].square())  # k
                grad_s = grad_s.mul_(lengths[block]).to(z.dtype)
                grad_z += grad_s @ v
                if grad_v is not None:
                    torch.addcmul(grad_s.T @ z, weight_v[block], along[:, None], value=-1, out=grad_v[block])
            ctx.save_for_backward(*(None if g is None else g.mul_(scale / temperature) for g in (grad_z, grad_v)))
            ctx.dtype = embeddings.dtype
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_embeddings, grad_weight = ctx.saved_tensors
        # In place: a gradient that was computed in the forward pass is used by one backward pass only.
        grad_weight = None if grad_weight is None else grad_weight.mul_(grad)
        return (grad_embeddings * grad).to(ctx.dtype), grad_weight, None, None, None, None, None


def _scaled(z: Tensor, weight: Tensor, lengths: Tensor, temperature: float) -> Tensor:
    """Compute s, (R, k), of embeddings (R, D) and prototypes: `lengths` (k,) times the directions `weight` (k, D)."""
    return (z @ weight.T).to(lengths.dtype).mul_(lengths / temperature)


def _target_sums(targets: Tensor, crops: int) -> Tensor:
    """Compute T, (R, k), from targets (2, B, k): the other view's for global crops, the sum of both for local ones."""
    both = (targets[0] + targets[1]).expand(crops - 2, -1, -1)
    return torch.cat([targets[1:], targets[:1], both]).flatten(0, 1)
