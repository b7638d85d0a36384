"""Arrays that an evaluation keeps beside its result for a figure, each checked for its shape as it is read."""

from collections.abc import Iterable, Sequence
from itertools import product
from zipfile import BadZipFile

import numpy as np

from scfs import paths
from scfs.config.study import Study
from scfs.errors import ScfsError
from scfs.report.results import read_result


class Arrays:
    """Arrays of one run's evaluation."""

    def __init__(self, study: Study, run: str, evaluation: str) -> None:
        """Read the arrays, and the result that was written with them: it refuses those of other weights.

        Raises:
            ScfsError: see `scfs.report.results.read_result`; or the arrays are missing or damaged.
        """
        self.path, self.kind = paths.result(run, evaluation).with_suffix(".npz"), study.evaluate[evaluation].kind
        read_result(study, run, evaluation)
        if not self.path.is_file():
            raise ScfsError(f"{self.path}: missing: the stage {self.kind} of run {run} writes it")
        try:
            with np.load(self.path, allow_pickle=False) as arrays:
                self.all = dict(arrays)
        except (OSError, EOFError, ValueError, BadZipFile) as error:
            raise self.wrong(str(error)) from None

    def wrong(self, reason: str) -> ScfsError:
        """Make the error of arrays that are not what the stage writes."""
        return ScfsError(f"{self.path}: not the arrays of a {self.kind}: {reason}")

    def __contains__(self, name: str) -> bool:
        """True if there is an array of this name."""
        return name in self.all

    def get(self, name: str, *shape: int | None) -> np.ndarray:
        """Give an array of a shape, in which None stands for any size.

        Raises:
            ScfsError: it is missing or has another shape.
        """
        if name not in self:
            raise self.wrong(f"{name} is missing")
        found = self.all[name]
        if len(found.shape) != len(shape) or any(want not in (None, size) for want, size in zip(shape, found.shape)):
            wanted = str(shape).replace("None", "any")
            raise self.wrong(f"{name} has the shape {found.shape}, not {wanted}")
        return found


def check_same(found: Sequence[Arrays], names: Iterable[str]) -> None:
    """Check that all runs were shown the same as the first one.

    Raises:
        ScfsError: an array of these names differs.
    """
    for arrays, name in product(found[1:], names):
        if not np.array_equal(arrays.all.get(name, ()), found[0].all.get(name, ())):
            raise ScfsError(
                f"{arrays.path}: shows other images or classes than the first run's ({name}): "
                f"run the stage {arrays.kind} again"
            )


def with_arrays(runs: Sequence[str], evaluation: str) -> list[str]:
    """Choose the runs whose evaluation left arrays; all if none did, so that reading them says what is missing."""
    return [run for run in runs if paths.result(run, evaluation).with_suffix(".npz").is_file()] or list(runs)
