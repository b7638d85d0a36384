"""Semantics-consistent feature search: the query, the attention map and the searched features (Eq. 5-8).

Trainings compute Eq. 7 and 8 by the fast form `searched_outputs`; `searched_features` beside it is the definition of
Eq. 7, and tests/model/test_searched_head.py holds them together.

Shapes: B images, N queries per image, G searched views, C channels, H x W positions, D outputs of a search head.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from scfs.model.backbones.resnet import pooled
from scfs.model.heads import SearchHead
from scfs.model.ops.batch_norm import folded_batch_norm
from scfs.model.ops.relu import relu_


def search_query(local_map: Tensor) -> Tensor:
    """Compute the query of each local crop (Eq. 5): the pooled map, L2-normalised, without gradient.

    Args:
        local_map: the student's map F_l of the local crops, (N*B, C, h, w).

    Returns:
        (N*B, C), at least float32.
    """
    return F.normalize(pooled(local_map.detach()), dim=1)


def attention_map(query: Tensor, feature_map: Tensor) -> Tensor:
    """Compute the cosine similarity of each query with every position of its image's map (Eq. 6); it may be negative.

    Args:
        query: f_l, N queries per image, (B, N, C); its length does not matter.
        feature_map: the teacher's map F'_g of one global crop, (B, C, H, W).

    Returns:
        A, (B, N, H, W), in the query's dtype.
    """
    B, _, H, W = feature_map.shape
    keys = feature_map.flatten(2)  # B, C, H*W
    # The products are divided by the norms, so that no normalised copy of the map is needed.
    norms = torch.linalg.vector_norm(keys, dim=1, keepdim=True, dtype=query.dtype).clamp_min(1e-12)
    products = torch.bmm(F.normalize(query, dim=2).to(keys.dtype), keys).to(query.dtype)
    return (products / norms).view(B, -1, H, W)


def searched_features(attention: Tensor, feature_map: Tensor) -> Tensor:
    """Compute the feature augmentations F'_lg = A . F'_g (Eq. 7) from the unnormalised map: the definition.

    Trainings call `searched_outputs`, which gives a head's outputs of F'_lg without computing F'_lg.

    Args:
        attention: A, (B, N, H, W).
        feature_map: F'_g, (B, C, H, W).

    Returns:
        (N*B, C, H, W), crop-major: all images of the first local crop, then of the second.
    """
    weights = attention.transpose(0, 1).unsqueeze(2).to(feature_map.dtype)  # N, B, 1, H, W
    return (weights * feature_map).flatten(0, 1)


@torch.no_grad()
def searched_outputs(head: SearchHead, attention: Tensor, first: Tensor, feature_map: Tensor) -> Tensor:
    """Compute head(F'_lg), as Eq. 8 needs it, for F'_lg of `searched_features` (Eq. 7): the fast form, for trainings.

    Equal up to rounding. A scales all channels of a position alike, so the first convolution of A . F is A times that
    of F, which is known already; its batch statistics follow from the sums of A and of A squared over the crops.

    Args:
        head: the teacher's head H'_i, in train mode; the running statistics of its norms are updated.
        attention: A, (B, N, H, W).
        first: the head's first convolution of F, (B, width, H, W).
        feature_map: F = F'_g, (B, C, H, W).

    Returns:
        (N*B, D), crop-major.
    """
    A = attention.transpose(0, 1).unsqueeze(-1).to(first.dtype)  # N, B, H, W, 1: channels last throughout
    scale, shift = (part.to(first.dtype) for part in folded_batch_norm(head.bn1, attention, first))
    x = relu_(torch.addcmul(shift, A, first.permute(0, 2, 3, 1) * scale))
    x = head.branch(x.flatten(0, 1).permute(0, 3, 1, 2))
    x.unflatten(0, A.shape[:2]).permute(0, 1, 3, 4, 2).addcmul_(A.to(x.dtype), feature_map.permute(0, 2, 3, 1))
    return head.unit_vectors(relu_(x))


def search(queries: Tensor, feature_maps: Tensor) -> Tensor:
    """Compute the attention (Eq. 6) of N crops of each image to the maps of G other crops of the same image.

    Args:
        queries: see `search_query`, (N, B, C).
        feature_maps: the teacher's maps, (G*B, C, H, W), crop-major.

    Returns:
        A, (G*B, N, H, W).
    """
    views = len(feature_maps) // queries.shape[1]
    return attention_map(queries.transpose(0, 1).repeat(views, 1, 1), feature_maps)
