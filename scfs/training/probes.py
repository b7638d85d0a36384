"""When a pre-training is probed, what becomes of the numbers, and the usable weights that are kept with them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from scfs.errors import ScfsError
from scfs.io.progress import log
from scfs.runtime import collectives

PROBES = 5
"""Probes of a training, beside that of its start weights, where no number of steps is given."""


class Probes:
    """Probes of one training. Their numbers are part of a checkpoint, and change nothing else of it."""

    def __init__(self, execution: Any, total: int, folder: Path, save: Callable[[Path], None]) -> None:
        """Plan the probes.

        Args:
            execution: a scfs.training.pretrain.PretrainExecution, with a probe.
            total: steps of the training.
            folder: gets the weights: those of the last probes, and the best ones.
            save: writes usable weights.
        """
        self.execution, self.total, self.folder, self.save = execution, total, folder, save
        self.every = execution.probe_every or -(-total // PROBES)
        self.values: dict[int, dict[str, float]] = {}

    def due(self, step: int) -> bool:
        """True if it is time for a probe at this step."""
        return step not in self.values and (step % self.every == 0 or step == self.total)

    def run(self, step: int, backbone: Any, device: torch.device) -> dict[str, float]:
        """Measure, say it, and keep the weights; a full disk is said, and ends nothing."""
        probe, best = self.execution.probe, max((v["knn"] for s, v in self.values.items() if s), default=-1.0)
        values = self.values[step] = probe(backbone, device, self.execution.workers)
        start = self.values.get(0, values)
        shown = ", ".join(f"{name} {value:.1f} % (start {start[name]:.1f} %)" for name, value in values.items())
        log(f"probe at step {step} of {self.total}: {shown}{probe.mark}")
        if step == self.total and values["knn"] <= start["knn"]:
            log("the probe says that it has not learnt: more steps, more images, or --init may help")
        if step and collectives.is_first():
            try:
                self._keep(step, values["knn"] > best)
            except ScfsError as error:
                log(f"warning: weights of the probe at step {step}: {error}; the training goes on")
        return {f"probe_{name}": value for name, value in values.items()}

    def _keep(self, step: int, best: bool) -> None:
        names = ["best"] * best + [f"step-{step:09d}"] * bool(self.execution.keep)
        for name in names:
            self.save(self.folder / f"{name}.safetensors")
        for old in sorted(self.folder.glob("step-*.safetensors"))[: -self.execution.keep or None]:
            old.unlink(missing_ok=True)

    def state_dict(self) -> dict[str, Any]:
        """Return the numbers, and what they were measured on."""
        return {"values": self.values, "images": self.execution.probe.test.digest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the numbers of a checkpoint if they are of the same images."""
        self.values = state["values"] if state["images"] == self.execution.probe.test.digest else {}
