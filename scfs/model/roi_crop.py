"""Positions of local crops in a global crop, and the features there: Table 7's row "ROI Crop".

The output size 5 x 5 and the scales of layer2 and layer3 come from the authors' code; layer4's is its stride.
In a ViT, all layers have the patch's (unsourced: the authors' code has no ViT search).
"""

import torch
from torch import Tensor

from scfs.config.backbones import BACKBONES

OUTPUT_SIZE = 5
TOP, LEFT, HEIGHT, WIDTH, FLIP = range(5)


def spatial_scale(backbone: str, layer: str) -> float:
    """Return the positions of a layer's map per pixel of the crop."""
    return 1 / dict(zip(("layer2", "layer3", "layer4"), BACKBONES[backbone].strides))[layer]


def local_boxes(crop_boxes: Tensor, views: int, size: int) -> tuple[Tensor, Tensor]:
    """Compute the boxes of the local crops in the frame of the global crops.

    Args:
        crop_boxes: (2 + N, B, 5): top, left, height, width of each crop in the image, and whether it is mirrored.
        views: number of global crops, G.
        size: side of a global crop in pixels.

    Returns:
        Boxes x1, y1, x2, y2 in pixels of the global crop, clipped to it, (N, G, B, 4) float; which of them overlap
        with it at all, (N, G, B) bool.
    """
    frame, box = crop_boxes[None, :views].float(), crop_boxes[2:, None].float()
    (left, right), (top, bottom) = (
        [((box[..., start] + shift) - frame[..., start]) * size / frame[..., side] for shift in (0, box[..., side])]
        for start, side in ((LEFT, WIDTH), (TOP, HEIGHT))
    )
    mirrored = frame[..., FLIP].bool()
    left, right = torch.where(mirrored, size - right, left), torch.where(mirrored, size - left, right)
    boxes = torch.stack([left, top, right, bottom], dim=-1).clamp(0, size)
    overlaps = (boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1])
    return boxes, overlaps


def region_features(feature_maps: Tensor, boxes: Tensor, scale: float) -> Tensor:
    """Compute the features at each local crop's position, without a search (RoIAlign, not shifted by half a pixel).

    Args:
        feature_maps: the teacher's maps of G global crops, (G*B, C, H, W), crop-major.
        boxes: see `local_boxes`, (N, G, B, 4).
        scale: see `spatial_scale`.

    Returns:
        (N*G*B, C, 5, 5), local crop by local crop, within each view by view.
    """
    from torchvision.ops import roi_align  # here, since it imports torch's compiler, seconds for each process

    index = torch.arange(len(feature_maps), device=boxes.device, dtype=boxes.dtype).repeat(len(boxes))
    regions = torch.cat([index[:, None], boxes.flatten(0, 2)], dim=1).to(
        torch.promote_types(feature_maps.dtype, torch.float32)
    )
    precise = feature_maps.to(regions.dtype)
    found: Tensor = roi_align(precise, regions, OUTPUT_SIZE, scale, sampling_ratio=-1, aligned=False)
    return found.to(feature_maps.dtype)
