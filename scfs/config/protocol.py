"""What all evaluations have in common."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from scfs.config.base import Config

Positive = Annotated[int, Field(ge=1)]


class Protocol(Config):
    """An evaluation: what is measured of a run's encoder."""

    stage: ClassVar[Literal["evaluate", "finetune", "detect"]] = "evaluate"
    """The pipeline's stage. The number of `evaluate` is cheap, and its code makes it stale; the others train, and only
    their integer in STAGE_VERSIONS does."""

    dataset: str
    """Data set, a key of the study's `data`."""
    test: str = "val"
    """Split that the number is measured on."""
    weights: Literal["teacher", "student"] = "teacher"
    """Which of the two encoders is evaluated."""

    @property
    def leaves_arrays(self) -> bool:
        """Whether the stage also writes the arrays of a figure (.npz)."""
        return False

    @property
    def parts(self) -> tuple[str, ...]:
        """Trainings that are jobs of their own, and whose results the evaluation's is made of."""
        return ()

    @property
    def splits(self) -> tuple[str, ...]:
        """Splits of the data set that are read."""
        return (self.test,)


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
