"""Arrays that an evaluation keeps beside its result for a figure, each checked for its shape as it is read."""

from collections.abc import Callable, Iterable, Sequence
from zipfile import BadZipFile

import numpy as np

from scfs import paths
from scfs.config.study import Study
from scfs.errors import ScfsError
from scfs.report.plot_styles import PlotStyle, plot_styles
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
                self._arrays = dict(arrays)
        except (OSError, EOFError, ValueError, BadZipFile) as error:
            raise self.wrong(str(error)) from None

    def wrong(self, reason: str) -> ScfsError:
        """Make the error of arrays that are not what the stage writes."""
        return ScfsError(f"{self.path}: not the arrays of a {self.kind}: {reason}")

    def __contains__(self, name: str) -> bool:
        """True if there is an array of this name."""
        return name in self._arrays

    def get(self, name: str, *shape: int | None) -> np.ndarray:
        """Give an array of a shape, in which None stands for any size.

        Raises:
            ScfsError: it is missing or has another shape.
        """
        if name not in self:
            raise self.wrong(f"{name} is missing")
        found = self._arrays[name]
        if len(found.shape) != len(shape) or any(want not in (None, size) for want, size in zip(shape, found.shape)):
            wanted = str(shape).replace("None", "any")
            raise self.wrong(f"{name} has the shape {found.shape}, not {wanted}")
        return found

    def check_same(self, other: "Arrays", names: Iterable[str]) -> None:
        """Check that two runs were shown the same.

        Raises:
            ScfsError: an array of these names differs.
        """
        for name in names:
            if not np.array_equal(self._arrays.get(name, ()), other._arrays.get(name, ())):
                raise ScfsError(
                    f"{self.path}: shows other images or classes than the first run's ({name}): "
                    f"run the stage {self.kind} again"
                )


def with_arrays(runs: Sequence[str], evaluation: str) -> list[str]:
    """Choose the runs whose evaluation left arrays; all if none did, so that reading them says what is missing."""
    return [run for run in runs if paths.result(run, evaluation).with_suffix(".npz").is_file()] or list(runs)


def arrays_by_style(
    study: Study, runs: Sequence[str], evaluation: str, same: Callable[[Arrays], Iterable[str]]
) -> list[tuple[PlotStyle, Arrays]]:
    """Read the arrays of each configuration's first run.

    Args:
        study: the study.
        runs: runs to show.
        evaluation: key of the study's `evaluate`.
        same: names of the arrays that must be equal in all configurations, by those of the first one.

    Raises:
        ScfsError: as Arrays, or the configurations were shown different images or classes.
    """
    found = [(style, Arrays(study, style.runs[0], evaluation)) for style in plot_styles(study, runs)]
    for _, arrays in found[1:]:
        arrays.check_same(found[0][1], same(found[0][1]))
    return found
