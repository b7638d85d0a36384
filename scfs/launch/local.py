"""One process for each GPU of this machine, by torchrun.

Detectron2's own `launch` does the same for its trainer, but knows nothing of ranks that a launcher has started already,
of gloo beside NCCL, or of a rank that fails while the others wait; torchrun and scfs.distributed do.
"""

import os
import sys
from collections.abc import Mapping

from scfs.progress import log
from scfs.world import find_world


def processes(gpus: int, images_per_batch: int) -> int:
    """Most GPUs, of those that there are, among which a batch can be shared evenly."""
    return max((number for number in range(1, gpus + 1) if images_per_batch % number == 0), default=1)


def on_every_gpu(device: str, images_per_batch: int, environment: Mapping[str, str] = os.environ) -> None:
    """Go on as several processes of this same command, if this one is alone and sees several GPUs; else return.

    Args:
        device: "auto", "cpu" or "cuda", as the user asked.
        images_per_batch: images that the processes share in each step.
        environment: where a launcher leaves its variables.
    """
    if device == "cpu" or find_world(environment).size > 1:
        return
    import torch

    number = processes(torch.cuda.device_count(), images_per_batch)
    if number == 1:
        return
    log(f"{number} processes, one for each of {number} GPUs")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(number)]
    os.execv(sys.executable, [sys.executable, *torchrun, "-m", "--", "scfs.cli", *sys.argv[1:]])
