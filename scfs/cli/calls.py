"""Functions of the stages whose work a job may do, as commands and jobs call them.

A job's pickle names one of these functions. Each imports its module only when it is called, so the process that submits
a job, and checks a command's options, needs no torch.
"""

from typing import Any


def pretrain_split(**arguments: Any) -> None:
    """Call `scfs.training.pretrain.pretrain_split`."""
    from scfs.training import pretrain

    pretrain.pretrain_split(**arguments)


def pretrain_folder(probe: dict[str, Any], **arguments: Any) -> None:
    """Call `scfs.training.pretrain.pretrain_folder` with the probe of `scfs.evaluation.during_training`."""
    from functools import partial

    from scfs.evaluation.during_training import prepare_probe
    from scfs.training import pretrain

    pretrain.pretrain_folder(**arguments, prepare_probe=partial(prepare_probe, **probe))


def evaluate(**arguments: Any) -> None:
    """Call `scfs.evaluation.run.evaluate`."""
    from scfs.evaluation import run

    run.evaluate(**arguments)


def tune(**arguments: Any) -> None:
    """Call `scfs.evaluation.finetune.stage.finetune` for a point of the grid."""
    from scfs.evaluation.finetune import stage

    stage.finetune(**arguments)


def finetune(**arguments: Any) -> None:
    """Call `scfs.evaluation.finetune.stage.finetune`."""
    from scfs.evaluation.finetune import stage

    stage.finetune(**arguments)


def detect(**arguments: Any) -> None:
    """Call `scfs.detection.stage.detect`."""
    from scfs.detection import stage

    stage.detect(**arguments)
