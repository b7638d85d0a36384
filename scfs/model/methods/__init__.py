"""Pre-training methods: each beside SCFS and DINO is one module here."""

from scfs.config.pretrain import Pretrain
from scfs.model.methods.base import MODELS, Method, add_method
from scfs.model.methods.scfs import SCFS
from scfs.model.methods.supervised import Supervised

for _name in ("scfs", "dino", "dino_ml", "roi_crop"):  # rows of Table 7, told apart by `SCFS`
    MODELS.add(_name)(SCFS)
MODELS.add("supervised")(Supervised)


def build_method(settings: Pretrain, classes: int = 0) -> Method:
    """Make the model of a run's method; see `Method.build`."""
    return MODELS[settings.method].build(settings, classes)


__all__ = ["SCFS", "Method", "Supervised", "add_method", "build_method"]
