"""Our ResNets as Detectron2's: its own blocks, numbered as in the paper (res2 ... res5), with or without an FPN.

Detectron2's builder asserts ResNet-18's usual 64 channels, and its C4 heads know bottleneck blocks only; these build
every architecture of scfs.model.resnet from MODEL.RESNETS. STEM_OUT_CHANNELS and RES2_OUT_CHANNELS tell the narrow one.
"""

import scfs.detection.compat  # isort: skip  # noqa: F401
from detectron2.config import CfgNode
from detectron2.layers import CNNBlockBase, ShapeSpec, get_norm
from detectron2.modeling import BACKBONE_REGISTRY, FPN, ResNet
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.modeling.backbone.resnet import BasicBlock, BasicStem, BottleneckBlock
from detectron2.modeling.roi_heads import ROI_HEADS_REGISTRY, Res5ROIHeads
from torch import nn

from scfs.config.backbones import BACKBONES, ResNetSpec
from scfs.errors import ScfsError
from scfs.model.backbones.resnet import Bottleneck, block_of

STAGES = (2, 3, 4, 5)


def set_backbone(cfg: CfgNode, name: str) -> None:
    """Write one of our architectures into MODEL.RESNETS.

    Raises:
        ScfsError: it is not a ResNet with the usual stem.
    """
    specs = {
        known: spec for known in BACKBONES if isinstance(spec := BACKBONES[known], ResNetSpec) and not spec.small_stem
    }
    if name not in specs:
        raise ScfsError(f"detection: backbone = {name!r}: allowed are {sorted(specs)}")
    spec = specs[name]
    resnets = cfg.MODEL.RESNETS
    resnets.DEPTH = int(name.rpartition("resnet")[2])
    resnets.STEM_OUT_CHANNELS = spec.width
    resnets.RES2_OUT_CHANNELS = spec.width * block_of(spec).expansion


def build_stage(cfg: CfgNode, number: int) -> list[CNNBlockBase]:
    """Build the blocks of res2, res3, res4 or res5 of the network that MODEL.RESNETS describes."""
    resnets = cfg.MODEL.RESNETS
    spec = BACKBONES[f"resnet{resnets.DEPTH}"]
    assert isinstance(spec, ResNetSpec)
    block, blocks = block_of(spec), spec.blocks
    place = STAGES.index(number)
    channels = resnets.RES2_OUT_CHANNELS * 2**place
    inputs = channels // 2 if place else resnets.STEM_OUT_CHANNELS
    strides = [2 if place else 1, *[1] * (blocks[place] - 1)]
    options = {"stride_per_block": strides, "in_channels": inputs, "out_channels": channels, "norm": resnets.NORM}
    if block is Bottleneck:
        options |= {"bottleneck_channels": channels // block.expansion, "stride_in_1x1": resnets.STRIDE_IN_1X1}
    kind = BottleneckBlock if block is Bottleneck else BasicBlock
    stage: list[CNNBlockBase] = ResNet.make_stage(kind, blocks[place], **options)
    return stage


@BACKBONE_REGISTRY.register()
def build_scfs_resnet(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """Build a ResNet up to the last stage of MODEL.RESNETS.OUT_FEATURES (C4: res4)."""
    resnets = cfg.MODEL.RESNETS
    stem = BasicStem(input_shape.channels, resnets.STEM_OUT_CHANNELS, resnets.NORM)
    stages = [build_stage(cfg, number) for number in STAGES]
    return ResNet(stem, stages, out_features=resnets.OUT_FEATURES, freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT)


@BACKBONE_REGISTRY.register()
def build_scfs_resnet_fpn(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Build a feature pyramid on a whole ResNet, which is its `bottom_up`."""
    resnet, fpn = build_scfs_resnet(cfg, input_shape), cfg.MODEL.FPN
    return FPN(resnet, fpn.IN_FEATURES, fpn.OUT_CHANNELS, fpn.NORM, LastLevelMaxPool(), fpn.FUSE_TYPE)


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
