"""Pre-training methods: each beside SCFS and DINO is one module here."""

import torch

from scfs.config.pretrain import Pretrain
from scfs.model.backbones.registry import build_backbone
from scfs.model.methods.base import MODELS, Crops, Method, add_method
from scfs.model.methods.scfs import SCFS
from scfs.model.methods.supervised import Supervised

for _name in ("scfs", "dino", "dino_ml", "roi_crop"):  # rows of Table 7, told apart by `SCFS`
    MODELS.add(_name)(SCFS)
MODELS.add("supervised")(Supervised)


def build_method(settings: Pretrain, classes: int = 0) -> Method:
    """Make the model of a run's method with weights that are drawn from the run's seed.

    Args:
        settings: the run's.
        classes: number of classes of the split's labels, for methods that learn from them.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return MODELS[settings.method](build_backbone(settings.backbone), settings, classes)


__all__ = ["SCFS", "Crops", "Method", "Supervised", "add_method", "build_method"]
