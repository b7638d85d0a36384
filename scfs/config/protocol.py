"""The base of all evaluations: everything that one declares, in one class.

The plan, the rehearsal, the schema, the report, dvc.yaml and the Snakefile take what they need from here. So a new
evaluation is a class with `@evaluation`, and a function with `@evaluates` (scfs.evaluation.result) that computes it.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import model_validator

from scfs.config.base import Config, Positive
from scfs.config.registry import KindRegistry

Passes = list[tuple[float, int]]
"""Numbers of images that pass forward through an encoder, each with the images' side in pixels."""

TRAINED = 3
"""Forward and backward through a network that is trained, in forward passes."""
SMALL_BATCH, SMALL_SIDE, SMALL_CROP = 4, 64, 32
"""Images per step in a rehearsal, and pixels of an image and of a local crop: multiples of all patches."""


class Value(NamedTuple):
    """A number that an evaluation measures."""

    digits: int = 1
    """Decimals that a table shows."""
    better: Literal["more", "less"] | None = "more"
    """Which of two is better; None: neither, as of a standard deviation, so that a table marks no best one."""


PERCENT, SPREAD = Value(), Value(better=None)


class Protocol(Config):
    """An evaluation: what is measured of a run's encoder, and how."""

    stage: ClassVar[Literal["evaluate", "finetune", "detect"]] = "evaluate"
    """The pipeline's stage. The number of `evaluate` is cheap, and its code makes it stale; the others train, and only
    their integer in STAGE_VERSIONS does. One added from outside is of `evaluate`."""
    leaves_arrays: ClassVar[bool] = False
    """True if the stage also writes arrays that a figure is drawn from (.npz)."""
    training_record: ClassVar[str] = ""
    """Key of a result under which it records its training; empty if it trains no encoder."""
    training_facts: ClassVar[Mapping[str, str]] = {}
    """Facts of that record that the report shows: label and key."""
    spread_over: ClassVar[str] = "seeds of the probe"
    """Things over which a standard deviation (a value X_sd beside X) is taken within a run, for the report."""

    kind: str
    dataset: str
    """Data set, a key of the study's `data`."""
    test: str = "val"
    """Split that the number is measured on."""
    weights: Literal["teacher", "student"] = "teacher"
    """Which of the two encoders is evaluated."""

    def values(self) -> dict[str, Value]:
        """Describe the numbers that are measured, by name."""
        raise NotImplementedError

    @property
    def parts(self) -> tuple[str, ...]:
        """Trainings that are jobs of their own, and whose results the evaluation's is made of."""
        return ()

    @property
    def splits(self) -> tuple[str, ...]:
        """Splits of the data set that are read: that of the field `train`, if there is one, and that of the test."""
        train: str | None = getattr(self, "train", None)
        return (train, self.test) if train else (self.test,)

    @property
    def complete_splits(self) -> tuple[str, ...]:
        """Splits in which every class must have an image."""
        return ()

    def passes(self, images: Callable[[str], int], part: bool = False) -> Passes:
        """Estimate the encoder's work in one job; what else an evaluation computes is small beside it.

        Args:
            images: gives the number of images of a split.
            part: the job is one of `parts`.
        """
        return []

    @property
    def assumptions(self) -> tuple[str, ...]:
        """Assumptions of `passes`, for the plan's reader."""
        return ()

    def remarks(self, name: str) -> list[str]:
        """Give the footnotes of a table that shows its values; `name` is its key in the study."""
        return []

    def small(self) -> Self:
        """Make a copy that takes next to nothing, for a rehearsal. It measures as many values, in the same order."""
        return self

    def problem(self, run: Any, data: Any) -> str:
        """Say why it cannot be applied to a run (Pretrain or Imported) on a data set; empty if it can."""
        return ""


EVALUATIONS: KindRegistry[Protocol] = KindRegistry("kind")
"""All evaluations, by the value of their field `kind`."""
evaluation = EVALUATIONS.add_kind
"""Decorator that adds a class to the evaluations."""
Evaluation = Annotated[Protocol, EVALUATIONS]
"""Any evaluation of a study, those of plugins among them."""


class ViewProtocol(Protocol):
    """An evaluation that tests on clean views of whole images."""

    resize: Positive = 256
    """Shorter side after bicubic resizing, in pixels."""
    crop: Positive = 224
    """Side of the centre crop, in pixels."""

    @model_validator(mode="after")
    def _crop_fits(self) -> Self:
        if self.crop > self.resize:
            raise ValueError(f"crop must not exceed resize ({self.resize})")
        return self

    def passes(self, images: Callable[[str], int], part: bool = False) -> Passes:
        """Count every image of the splits once."""
        return [(sum(map(images, self.splits)), self.crop)]

    def small(self) -> Self:
        """Make the views small; whole images stay whole."""
        resize = SMALL_SIDE if self.resize == self.crop else SMALL_SIDE + 8
        return self.model_copy(update={"crop": SMALL_SIDE, "resize": resize})
