"""The catalogue of public weights (catalogue.yaml): their addresses, hashes, licences and authors."""

import re
from functools import cache, partial
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from scfs import paths
from scfs.config.base import NAME, Config, parse
from scfs.config.strict_yaml import load_yaml
from scfs.config.study import Study
from scfs.config.weight_formats import FORMATS, ImportFormat
from scfs.errors import ScfsError, refusing
from scfs.io.download import check_published
from scfs.io.download import fetch as fetch_file
from scfs.io.progress import log
from scfs.io.results import sha256_of

SOURCE = "scfs/weights/catalogue.yaml"
BY_HAND = "by hand: "


class PublicWeights(Config):
    """One file of public weights."""

    url: Annotated[str, Field(pattern=r"^(https?://|file://|by hand: ).")]
    """Address to fetch it from, or "by hand: " and where a person gets it."""
    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Name of the file in weights/downloads."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{8,64}$")] | Literal["unknown"]
    """Hash of the content, or as many of its first digits as the maker tells."""
    size: int | None
    """Number of bytes; null: unknown."""
    licence: str
    """Licence of the weights."""
    citation: str
    """Work that the weights come from."""
    format: ImportFormat
    """Names and nesting of the tensors (scfs.config.weight_formats)."""
    backbone: str
    """Architecture, in the names of `pretrain`."""
    encoders: tuple[Literal["student", "teacher"], ...] = Field(min_length=1)
    """Encoders in the file; a single network counts as a teacher."""

    @model_validator(mode="after")
    def _named_as_the_readers_expect(self) -> Self:
        if not FORMATS[self.format].published_as_safetensors and PurePosixPath(self.file).suffix == ".safetensors":
            raise ValueError(f"file {self.file}: {self.format} does not publish safetensors")
        return self

    @property
    def by_hand(self) -> str | None:
        """Place where a person gets it; None if it can be fetched."""
        return self.url.removeprefix(BY_HAND) if self.url.startswith(BY_HAND) else None


class Catalogue(Config):
    """The file catalogue.yaml."""

    entries: dict[Annotated[str, Field(pattern=NAME)], PublicWeights]
    """Files by the names that studies give them."""

    @model_validator(mode="after")
    def _files_differ(self) -> Self:
        names = [entry.file for entry in self.entries.values()]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"file must not repeat: {repeated}")
        return self


@cache
def catalogue() -> dict[str, PublicWeights]:
    """Return all entries by name."""
    text = Path(__file__).with_name("catalogue.yaml").read_text(encoding="utf-8")
    return parse(Catalogue, load_yaml(text), SOURCE).entries


def check(study: Study) -> None:
    """Check a study's imported runs against the catalogue, before anything is computed.

    Raises:
        ScfsError: an entry does not exist, or has another backbone; the line names the file and the run.
    """
    for run in study.runs:
        imported = study.imported(run)
        if imported is None or imported.is_file:
            continue
        with refusing(f"{study.path}: runs.{run}", ScfsError):
            entry = entry_named(imported.weights)
            if entry.backbone != imported.backbone:
                raise ScfsError(f"backbone = {imported.backbone!r}: {imported.weights} is a {entry.backbone}")


def entry_named(name: str) -> PublicWeights:
    """Return one entry.

    Raises:
        ScfsError: there is none of this name.
    """
    if name not in catalogue():
        raise ScfsError(f"{SOURCE}: no weights {name!r}: not among {sorted(catalogue())}")
    return catalogue()[name]


def find_weights(named: str) -> tuple[Path, PublicWeights | None]:
    """Find the file of weights that a user named, by its path or as an entry of the catalogue, which is fetched.

    Raises:
        ScfsError: it is neither a file nor an entry; see `fetch`.
    """
    if Path(named).exists() or re.fullmatch(NAME, named) is None:
        return Path(named), None
    entry = entry_named(named)
    return fetch(entry), entry


def fetch(entry: PublicWeights, folder: Path | None = None) -> Path:
    """Return an entry's file in `folder` (default: weights/downloads), fetched if it is not there yet.

    Raises:
        ScfsError: it has to be got by hand, cannot be fetched, or is not the file that the catalogue means.
    """
    path = (folder or paths.downloads()) / entry.file
    if entry.by_hand and not path.is_file():
        raise ScfsError(f"{path}: no such file; it has to be got by hand: {entry.by_hand}; put it there")
    sha256 = None if entry.sha256 == "unknown" else entry.sha256
    check = partial(check_published, size=entry.size, sha256=sha256)
    if fetch_file([entry.url], path, check, attempts=1) and sha256 is None:
        log(f"warning: {path}: the catalogue does not know its SHA-256; it is {sha256_of(path)}")
    return path
