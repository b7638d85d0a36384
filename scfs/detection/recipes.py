"""Detectron2's configuration of a protocol: a recipe (recipes/*.yaml) and what study, run and machine say."""

import scfs.detection.compat  # isort: skip  # noqa: F401

from itertools import pairwise
from typing import Any

from detectron2 import model_zoo
from detectron2.config import CfgNode

from scfs.config.detection import RECIPES, Detection, SmallMachine
from scfs.config.study import read_yaml
from scfs.detection.backbone import set_backbone  # the module also registers the heads that recipes name
from scfs.errors import ScfsError


def build_config(protocol: Detection, backbone: str, classes: int, device: str, gpus: int = 1) -> CfgNode:
    """Resolve a protocol for `detectron2.modeling.build_model` and `detectron2.engine`.

    What the caller still has to set: DATASETS, DATALOADER, SEED and OUTPUT_DIR. The weights are not in it either:
    scfs.detection.weights puts them into the model.

    Args:
        protocol: the evaluation.
        backbone: name of the run's architecture, a ResNet.
        classes: number of the data set's classes, background not among them.
        device: "cpu" or "cuda".
        gpus: processes that share each batch.

    Raises:
        ScfsError: another architecture than a ResNet, a box head that the recipe does not have, a count of the small
            machine above the recipe's, or a batch that does not divide among the processes.
    """
    recipe = read_yaml(RECIPES / f"{protocol.recipe}.yaml")
    cfg = model_zoo.get_config(recipe["base"])
    cfg.merge_from_other_cfg(CfgNode(recipe["config"]))
    cfg.merge_from_other_cfg(CfgNode(_box_head(protocol, recipe)))
    set_backbone(cfg, backbone)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = classes
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.DEVICE = device
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ()
    if protocol.images_per_batch is not None:
        _scale(cfg.SOLVER, protocol.images_per_batch)
    if protocol.small_machine is not None:
        _shrink(cfg, protocol.small_machine)
    if cfg.SOLVER.IMS_PER_BATCH % gpus:
        raise ScfsError(f"detection: images_per_batch = {cfg.SOLVER.IMS_PER_BATCH}: does not divide by {gpus} GPUs")
    if gpus == 1:
        _norm_alone(cfg.MODEL)
    return cfg


def _box_head(protocol: Detection, recipe: dict[str, Any]) -> dict[str, Any]:
    heads: dict[str, dict[str, Any]] = {"2fc": {}, **recipe.get("box_heads", {})}
    if protocol.box_head not in heads:
        raise ScfsError(
            f"detection: box_head = {protocol.box_head!r}: recipe {protocol.recipe} has no FPN, allowed is '2fc'"
        )
    return heads[protocol.box_head]


def _scale(solver: CfgNode, images: int) -> None:
    """Apply the linear scaling rule: k times the images, k times the rate, a k-th of the steps [Goyal et al., 2017]."""
    k = images / solver.IMS_PER_BATCH
    solver.IMS_PER_BATCH = images
    solver.BASE_LR *= k
    _set_length(solver, round(solver.MAX_ITER / k))


def _set_length(solver: CfgNode, iterations: int) -> None:
    """Change the number of steps; the warm-up and the steps where the rate falls shrink or grow with it.

    Where these places would not be distinct steps within the training, the rate stays.
    """
    share = iterations / solver.MAX_ITER
    steps = tuple(round(step * share) for step in solver.STEPS)
    marks = (0, *steps, iterations)
    solver.STEPS = steps if all(a < b for a, b in pairwise(marks)) else ()
    solver.WARMUP_ITERS = round(solver.WARMUP_ITERS * share)
    solver.MAX_ITER = iterations


def _shrink(cfg: CfgNode, small: SmallMachine) -> None:
    """Lower the counts; the anchors keep their size relative to the test image."""
    model, images = cfg.MODEL, cfg.INPUT
    allowed = {
        "iterations": cfg.SOLVER.MAX_ITER,
        "short_side": images.MIN_SIZE_TEST,
        "rpn_batch": model.RPN.BATCH_SIZE_PER_IMAGE,
        "roi_batch": model.ROI_HEADS.BATCH_SIZE_PER_IMAGE,
        "proposals": min(model.RPN.POST_NMS_TOPK_TRAIN, model.RPN.POST_NMS_TOPK_TEST),
        "precise_bn": cfg.TEST.PRECISE_BN.NUM_ITER,
    }
    for key, most in allowed.items():
        if (value := getattr(small, key)) > most:
            raise ScfsError(f"detection: small_machine.{key} = {value}: allowed are 1 to {most}, the recipe's")
    _set_length(cfg.SOLVER, small.iterations)
    scale = small.short_side / images.MIN_SIZE_TEST
    anchors = model.ANCHOR_GENERATOR
    anchors.SIZES = [[size * scale for size in sizes] for sizes in anchors.SIZES]
    images.MAX_SIZE_TRAIN = round(images.MAX_SIZE_TRAIN * scale)
    images.MAX_SIZE_TEST = round(images.MAX_SIZE_TEST * scale)
    images.MIN_SIZE_TRAIN, images.MIN_SIZE_TEST = (small.short_side,), small.short_side
    model.RPN.BATCH_SIZE_PER_IMAGE = small.rpn_batch
    model.ROI_HEADS.BATCH_SIZE_PER_IMAGE = small.roi_batch
    model.RPN.POST_NMS_TOPK_TRAIN = model.RPN.POST_NMS_TOPK_TEST = small.proposals
    cfg.TEST.PRECISE_BN.NUM_ITER = small.precise_bn


def _norm_alone(node: CfgNode) -> None:
    """Replace SyncBN by BN: the same arithmetic in one process; SyncBN refuses a CPU where there is a process group."""
    for key, value in node.items():
        if isinstance(value, CfgNode):
            _norm_alone(value)
        elif key == "NORM" and value == "SyncBN":
            node[key] = "BN"
