"""A stage's work, by name, so that whoever submits it need not import torch."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

from scfs.cores import worker_count


@dataclass(frozen=True)
class Work:
    """A function that does the work of a stage in every process of its job."""

    module: str
    function: str
    keywords: dict[str, Any]
    threads: int
    """Torch's."""
    workers: int | None
    """Image readers; None: as many as the cores are good for where the work is done."""

    def __call__(self) -> None:
        """Do it."""
        function = getattr(import_module(self.module), self.function)
        function(**self.keywords, threads=self.threads, workers=worker_count(self.workers, self.threads))
