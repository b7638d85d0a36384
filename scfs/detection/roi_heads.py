"""Heads of a C4 detector: res5 runs on the regions, with a norm after it [MoCo: detection/train_net.py]."""

import scfs.detection.compat  # isort: skip  # noqa: F401

from detectron2.config import CfgNode
from detectron2.layers import get_norm
from detectron2.modeling.roi_heads import ROI_HEADS_REGISTRY, Res5ROIHeads
from torch import nn

from scfs.detection.backbone import build_stage


@ROI_HEADS_REGISTRY.register()
class NormedRes5Heads(Res5ROIHeads):
    """Detectron2's, with our res5 (basic blocks too) and MODEL.RESNETS.NORM after it as `res5.norm`."""

    @classmethod
    def _build_res5_block(cls, cfg: CfgNode) -> tuple[nn.Sequential, int]:
        blocks = build_stage(cfg, 5)
        channels = blocks[-1].out_channels
        res5 = nn.Sequential(*blocks)
        res5.add_module("norm", get_norm(cfg.MODEL.RESNETS.NORM, channels))
        return res5, channels
