"""The catalogue of official data sets (official_sets.yaml): their archives, their checks, and what they hold."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, ClassVar, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from scfs.config.base import Config, Name, Positive, Sha256, parse
from scfs.config.strict_yaml import load_yaml
from scfs.errors import ScfsError
from scfs.io.download import check_published

SOURCE = "scfs/config/official_sets.yaml"

Md5 = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Url = Annotated[str, Field(pattern=r"^(https?://|file:///).")]


class Version(Config):
    """Another file with the same content, such as a repacked archive."""

    size: Positive
    """Bytes."""
    sha256: Sha256
    """Hash of it."""
    md5: ClassVar[None] = None
    """Nobody publishes one."""


class Archive(Config):
    """One file as it is published."""

    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Its name in the set's folder."""
    size: Positive | None
    """Bytes; null: not known."""
    md5: Md5 | None
    """MD5 of its content; null: not published."""
    sha256: Sha256 | None
    """SHA-256 of its content; null: not published."""
    also: tuple[Version, ...] = ()
    """Other versions that are as good."""
    urls: tuple[Url, ...] = ()
    """Mirrors, the best one first."""
    by_hand: str | None = None
    """Place where a person gets it, if it cannot be fetched or the mirrors do not have it."""

    @model_validator(mode="after")
    def _to_be_had(self) -> Self:
        if not self.urls and self.by_hand is None:
            raise ValueError("urls and by_hand: at least one is needed")
        return self

    def check(self, path: Path) -> None:
        """Compare a file with what is published, reading all of it.

        Raises:
            ScfsError: it is none of the versions; the line says what differs.
        """
        versions: list[Archive | Version] = [self, *self.also]
        problems = []
        for known in versions:
            try:
                return check_published(path, known.size, known.sha256, known.md5)
            except ScfsError as error:
                problems.append(error)
        raise problems[0]


class OfficialSet(Config):
    """One data set."""

    title: str
    """Name as the field knows it."""
    task: Literal["classification", "detection"]
    """Task that it is used for here."""
    metric: Literal["top1", "mean_per_class"] | None = None
    """Accuracy that is reported for a classification."""
    classes: Positive
    """Number of them."""
    splits: dict[Name, Positive] = Field(min_length=1)
    """Images of each split."""
    licence: str
    """Terms of use of the images."""
    citation: str
    """Whose work it is."""
    uses: tuple[Name, ...] = ()
    """Other sets whose archives it is taken from."""
    archives: dict[Name, Archive] = Field(min_length=1)
    """Its own archives by role."""
    notes: str = ""
    """Notes for a user."""

    @model_validator(mode="after")
    def _metric_of_a_classification(self) -> Self:
        if (self.metric is not None) != (self.task == "classification"):
            raise ValueError("metric: for a classification, and only for one")
        return self


class Catalogue(Config):
    """The whole file."""

    sets: dict[Name, OfficialSet]
    """Sets by name."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for name, official in self.sets.items():
            unknown = sorted(set(official.uses) - self.sets.keys())
            if unknown:
                raise ValueError(f"sets.{name}.uses: no such sets: {unknown}")
            own = [archive.file for archive in official.archives.values()]
            if len(set(own)) < len(own):
                raise ValueError(f"sets.{name}.archives: file must not repeat: {own}")
            roles = [role for used in (official, *map(self.sets.get, official.uses)) if used for role in used.archives]
            if len(set(roles)) < len(roles):
                raise ValueError(f"sets.{name}: roles must not repeat: {roles}")
        return self


class RequiredArchive(NamedTuple):
    """An archive that a set is made from."""

    role: str
    """Name that the set's parser gives it."""
    path: Path
    """Path where it lies or has to be put."""
    archive: Archive
    """Facts of the file."""


@cache
def catalogue() -> dict[str, OfficialSet]:
    """Load all data sets by name."""
    text = Path(__file__).with_name("official_sets.yaml").read_text(encoding="utf-8")
    return parse(Catalogue, load_yaml(text), SOURCE).sets


def official_set(name: str) -> OfficialSet:
    """Look up one data set.

    Raises:
        ScfsError: there is none of this name.
    """
    if name not in catalogue():
        raise ScfsError(f"{SOURCE}: no data set {name!r}: not among {sorted(catalogue())}")
    return catalogue()[name]


def required_archives(name: str, folder: Path) -> Iterator[RequiredArchive]:
    """Yield the archives that a set is made from, in `folder`/<set>: first other sets' that it uses, then its own.

    Raises:
        ScfsError: there is no such set.
    """
    for owner in (*official_set(name).uses, name):
        for role, archive in catalogue()[owner].archives.items():
            yield RequiredArchive(role, folder / owner / archive.file, archive)
