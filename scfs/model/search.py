"""Semantics-consistent feature search: the query, the attention map and the searched features (Eq. 5-7)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from scfs.model.backbones.resnet import pooled


def search_query(local_map: Tensor) -> Tensor:
    """Query of each local crop (Eq. 5): the pooled map, L2-normalised, without gradient.

    Args:
        local_map: the student's map F_l of the local crops, (N*B, C, h, w).

    Returns:
        (N*B, C), at least float32.
    """
    return F.normalize(pooled(local_map.detach()), dim=1)


def attention_map(query: Tensor, feature_map: Tensor) -> Tensor:
    """Cosine similarity of each query with every position of its image's map (Eq. 6). May be negative.

    Args:
        query: f_l, N queries per image, (B, N, C); its length does not matter.
        feature_map: the teacher's map F'_g of one global crop, (B, C, H, W).

    Returns:
        A, (B, N, H, W), in the query's dtype.
    """
    B, _, H, W = feature_map.shape
    keys = feature_map.flatten(2)  # B, C, H*W
    # Dividing the products by the norms is Eq. 6 without a normalised copy of the map.
    norms = torch.linalg.vector_norm(keys, dim=1, keepdim=True, dtype=query.dtype).clamp_min(1e-12)
    products = torch.bmm(F.normalize(query, dim=2).to(keys.dtype), keys).to(query.dtype)
    return (products / norms).view(B, -1, H, W)


def searched_features(attention: Tensor, feature_map: Tensor) -> Tensor:
    """Feature augmentations F'_lg = A . F'_g (Eq. 7), with the map as it is, not normalised.

    Args:
        attention: A, (B, N, H, W).
        feature_map: F'_g, (B, C, H, W).

    Returns:
        (N*B, C, H, W), crop-major: all images of the first local crop, then of the second.
    """
    weights = attention.transpose(0, 1).unsqueeze(2).to(feature_map.dtype)  # N, B, 1, H, W
    return (weights * feature_map).flatten(0, 1)


def search(queries: Tensor, feature_maps: Tensor) -> Tensor:
    """Let N crops of each image search the maps of G other crops of it (Eq. 6).

    Args:
        queries: see `search_query`, (N, B, C).
        feature_maps: the teacher's maps, (G*B, C, H, W), crop-major.

    Returns:
        A, (G*B, N, H, W).
    """
    views = len(feature_maps) // queries.shape[1]
    return attention_map(queries.transpose(0, 1).repeat(views, 1, 1), feature_maps)
