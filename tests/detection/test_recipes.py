"""Recipes: the published numbers, the linear scaling rule, and small machines."""

import math
from typing import Any

import pytest
import torch

import scfs.detection.compat  # isort: skip  # noqa: F401

from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler, build_optimizer
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import nn

from scfs.config.detection import Detection
from scfs.detection.recipes import build_config
from scfs.errors import ScfsError
from scfs.views.images import IMAGENET_MEAN, IMAGENET_STD

pytestmark = pytest.mark.detectron2

VOC, COCO, COCO_2X = "voc_faster_rcnn_c4", "coco_mask_rcnn_fpn_1x", "coco_mask_rcnn_fpn_2x"


def config(recipe: str, backbone: str = "resnet50", classes: int = 20, gpus: int = 1, **fields: Any) -> CfgNode:
    protocol = Detection.model_validate({"kind": "detection", "dataset": "some", "recipe": recipe, **fields})
    return build_config(protocol, backbone, classes, "cpu", gpus)


def value(cfg: CfgNode, key: str) -> Any:
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


COMMON = {
    "MODEL.META_ARCHITECTURE": "GeneralizedRCNN",
    "MODEL.BACKBONE.FREEZE_AT": 0,
    "MODEL.RESNETS.DEPTH": 50,
    "MODEL.RESNETS.NORM": "SyncBN",
    "MODEL.RESNETS.STRIDE_IN_1X1": False,
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 256,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 512,
    "MODEL.WEIGHTS": "",
    "INPUT.FORMAT": "RGB",
    "INPUT.MIN_SIZE_TEST": 800,
    "INPUT.MAX_SIZE_TEST": 1333,
    "SOLVER.IMS_PER_BATCH": 16,
    "SOLVER.BASE_LR": 0.02,
    "SOLVER.GAMMA": 0.1,
    "SOLVER.MOMENTUM": 0.9,
    "SOLVER.WEIGHT_DECAY": 1e-4,
    "TEST.PRECISE_BN.ENABLED": True,
    "TEST.PRECISE_BN.NUM_ITER": 200,
    "DATASETS.TRAIN": (),
}
PUBLISHED = {
    VOC: {
        "MODEL.MASK_ON": False,
        "MODEL.RESNETS.OUT_FEATURES": ["res4"],
        "MODEL.RPN.PRE_NMS_TOPK_TEST": 6000,
        "MODEL.RPN.POST_NMS_TOPK_TEST": 1000,
        "INPUT.MIN_SIZE_TRAIN": tuple(range(480, 801, 32)),
        "SOLVER.WARMUP_ITERS": 100,
        "SOLVER.STEPS": (18000, 22000),
        "SOLVER.MAX_ITER": 24000,
    },
    COCO: {
        "MODEL.MASK_ON": True,
        "MODEL.FPN.NORM": "SyncBN",
        "MODEL.ROI_BOX_HEAD.NUM_FC": 2,
        "MODEL.ROI_BOX_HEAD.NUM_CONV": 0,
        "MODEL.ROI_MASK_HEAD.NORM": "",
        "INPUT.MIN_SIZE_TRAIN": (640, 672, 704, 736, 768, 800),
        "SOLVER.WARMUP_ITERS": 1000,
        "SOLVER.STEPS": (60000, 80000),
        "SOLVER.MAX_ITER": 90000,
    },
}
PUBLISHED[COCO_2X] = PUBLISHED[COCO] | {"SOLVER.STEPS": (120000, 160000), "SOLVER.MAX_ITER": 180000}


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_published_numbers(recipe: str) -> None:
    cfg = config(recipe, gpus=8, classes=7)
    expected = COMMON | PUBLISHED[recipe] | {"MODEL.ROI_HEADS.NUM_CLASSES": 7, "MODEL.DEVICE": "cpu"}
    assert {key: value(cfg, key) for key in expected} == expected
    # As the encoders were trained, on images from 0 to 1 there.
    assert [mean / 255 for mean in cfg.MODEL.PIXEL_MEAN] == pytest.approx(IMAGENET_MEAN)
    assert [std / 255 for std in cfg.MODEL.PIXEL_STD] == pytest.approx(IMAGENET_STD)


def test_box_head_of_four_convolutions() -> None:
    """SoCo's: SyncBN in both heads, and a quarter of the weight decay."""
    cfg = config(COCO, gpus=8, box_head="4conv1fc")
    box, mask = cfg.MODEL.ROI_BOX_HEAD, cfg.MODEL.ROI_MASK_HEAD
    assert (box.NUM_CONV, box.NUM_FC, box.NORM, mask.NORM) == (4, 1, "SyncBN", "SyncBN")
    assert cfg.SOLVER.WEIGHT_DECAY == 2.5e-5 and cfg.SOLVER.MAX_ITER == 90000
    assert config(COCO_2X, box_head="4conv1fc").MODEL.ROI_MASK_HEAD.NORM == "BN"
    with pytest.raises(
        ScfsError, match=f"^detection: box_head = '4conv1fc': recipe {VOC} has no FPN, allowed is '2fc'$"
    ):
        config(VOC, box_head="4conv1fc")


@pytest.mark.parametrize("recipe", [VOC, COCO])
def test_norms_are_synchronised_between_processes_only(recipe: str) -> None:
    several, alone = (build_model(config(recipe, "resnet18", gpus=gpus)) for gpus in (2, 1))

    def count(model: nn.Module, kind: type) -> int:
        return sum(isinstance(module, kind) for module in model.modules())

    # ResNet-18 has 20 of them; on top, C4 the one after res5, FPN one after each of 4 lateral and 4 output convolutions.
    norms = {VOC: 21, COCO: 28}[recipe]
    assert (count(several, nn.SyncBatchNorm), count(several, nn.BatchNorm2d)) == (norms, 0)
    assert (count(alone, nn.SyncBatchNorm), count(alone, nn.BatchNorm2d)) == (0, norms)


def test_linear_scaling_by_hand() -> None:
    solver = config(VOC, images_per_batch=2).SOLVER
    assert (solver.IMS_PER_BATCH, solver.BASE_LR, solver.MAX_ITER) == (2, 0.0025, 192000)
    assert (solver.STEPS, solver.WARMUP_ITERS) == ((144000, 176000), 800)
    solver = config(COCO, images_per_batch=64).SOLVER
    assert (solver.IMS_PER_BATCH, solver.BASE_LR, solver.MAX_ITER) == (64, 0.08, 22500)
    assert (solver.STEPS, solver.WARMUP_ITERS) == ((15000, 20000), 250)


@pytest.mark.parametrize("images", [1, 3, 7, 12, 16, 24, 100])
def test_linear_scaling_is_detectron2s(images: int) -> None:
    theirs = config(COCO)
    theirs.SOLVER.REFERENCE_WORLD_SIZE = 16  # one image for each worker
    theirs = DefaultTrainer.auto_scale_workers(theirs, images)
    ours = config(COCO, images_per_batch=images)
    for key in ("IMS_PER_BATCH", "BASE_LR", "MAX_ITER", "STEPS", "WARMUP_ITERS"):
        assert ours.SOLVER[key] == theirs.SOLVER[key], key


def test_small_machine_by_hand() -> None:
    small = {"iterations": 300, "short_side": 200, "proposals": 50}
    cfg = config(COCO, images_per_batch=2, small_machine=small)
    expected = {
        "SOLVER.BASE_LR": 0.0025,
        "SOLVER.MAX_ITER": 300,
        "SOLVER.STEPS": (200, 267),
        "SOLVER.WARMUP_ITERS": 3,
        "INPUT.MIN_SIZE_TRAIN": (200,),
        "INPUT.MIN_SIZE_TEST": 200,
        "INPUT.MAX_SIZE_TRAIN": 333,
        "INPUT.MAX_SIZE_TEST": 333,
        "MODEL.ANCHOR_GENERATOR.SIZES": [[8], [16], [32], [64], [128]],
        "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 64,
        "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 32,
        "MODEL.RPN.POST_NMS_TOPK_TRAIN": 50,
        "MODEL.RPN.POST_NMS_TOPK_TEST": 50,
        "TEST.PRECISE_BN.NUM_ITER": 20,
    }
    assert {key: value(cfg, key) for key in expected} == expected
    assert config(VOC, small_machine=small).MODEL.ANCHOR_GENERATOR.SIZES == [[8, 16, 32, 64, 128]]
    # Nothing else differs from the recipe: the keys that do, by name.
    recipe = config(COCO, images_per_batch=2)
    assert different(cfg, recipe) == set(expected) - {"SOLVER.BASE_LR"}


def different(one: CfgNode, other: CfgNode, prefix: str = "") -> set[str]:
    found: set[str] = set()
    for key in one:
        if isinstance(one[key], CfgNode):
            found |= different(one[key], other[key], f"{prefix}{key}.")
        elif one[key] != other[key]:
            found.add(prefix + key)
    return found


@pytest.mark.parametrize(
    ("key", "wanted", "most"),
    [
        ("iterations", 192001, 192000),
        ("short_side", 801, 800),
        ("rpn_batch", 257, 256),
        ("roi_batch", 513, 512),
        ("proposals", 1001, 1000),
        ("precise_bn", 201, 200),
    ],
)
def test_a_small_machine_only_lowers(key: str, wanted: int, most: int) -> None:
    small = {"iterations": 10, "short_side": 64, key: wanted}
    message = rf"^detection: small_machine\.{key} = {wanted}: allowed are 1 to {most}, the recipe's$"
    with pytest.raises(ScfsError, match=message):
        config(VOC, images_per_batch=2, small_machine=small)
    config(VOC, images_per_batch=2, small_machine=small | {key: most})


@pytest.mark.parametrize("iterations", [1, 2, 3, 5, 8, 13, 100])
def test_the_rate_falls_at_distinct_steps_or_not_at_all(iterations: int) -> None:
    cfg = config(VOC, small_machine={"iterations": iterations, "short_side": 64})
    steps = cfg.SOLVER.STEPS
    assert steps == () or 0 < steps[0] < steps[1] < iterations
    assert (steps == ()) == (iterations < 8)  # 18000 and 22000 of 24000: 6 and 7 of 8 steps
    model = nn.Linear(1, 1)
    optimizer = build_optimizer(cfg, model)
    scheduler = build_lr_scheduler(cfg, optimizer)
    rates = []
    for _ in range(iterations):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert all(map(math.isfinite, rates))
    assert rates[-1] == pytest.approx(0.02 * 0.1 ** len(steps))


def test_what_does_not_fit_is_one_line() -> None:
    for name in ("vit_small_16", "small_stem_resnet18"):
        with pytest.raises(
            ScfsError, match=rf"^detection: backbone = '{name}': allowed are \['narrow_resnet18', 'res.*50'\]$"
        ):
            config(VOC, name)
    with pytest.raises(ScfsError, match=r"^detection: images_per_batch = 16: does not divide by 3 GPUs$"):
        config(VOC, gpus=3)
    assert config(VOC, gpus=3, images_per_batch=6).SOLVER.IMS_PER_BATCH == 6


@pytest.mark.parametrize(
    ("recipe", "backbone", "box_head"),
    [(VOC, "narrow_resnet18", "2fc"), (VOC, "resnet50", "2fc"), (COCO, "narrow_resnet18", "4conv1fc")],
)
def test_every_parameter_is_trained(recipe: str, backbone: str, box_head: str) -> None:
    """One step on a made-up image: losses are finite, and the stem and the norm after res5 have a gradient as all do."""
    torch.manual_seed(0)
    cfg = config(recipe, backbone, 3, box_head=box_head, small_machine={"iterations": 10, "short_side": 64})
    model = build_model(cfg).train()
    objects = Instances((64, 80), gt_boxes=Boxes(torch.tensor([[10.0, 12, 50, 48]])), gt_classes=torch.tensor([1]))
    if cfg.MODEL.MASK_ON:
        mask = torch.zeros(1, 64, 80, dtype=torch.bool)
        mask[:, 12:48, 10:50] = True
        objects.gt_masks = BitMasks(mask)
    images = [{"image": torch.randint(256, (3, 64, 80), dtype=torch.uint8), "instances": objects} for _ in range(2)]
    with EventStorage():
        losses = model(images)
    assert len(losses) == (5 if cfg.MODEL.MASK_ON else 4)
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert without == []
    assert model.roi_heads.box_predictor.cls_score.out_features == 4  # and the background
