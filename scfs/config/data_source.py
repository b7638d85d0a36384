"""The base of all data sources of a study: everything that one declares, in one class.

`prepare`, the plan, the rehearsal, the schema and the graphs take what they need from here. So a new source is a class
with `@data_source`, and a function with `@prepares` (scfs.data.sources.registry) that writes its manifest.
"""

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from scfs.config.base import Config
from scfs.config.registry import KindRegistry

SMALL_IMAGES = 8
"""Images of a split in a rehearsal."""


class DataSource(Config):
    """A data set: where its images come from."""

    boxes: ClassVar[bool] = False
    """True if all data sets of this source have boxes."""
    known_from: ClassVar[str] = "the study says"
    """Words of `scfs plan` for where `known_images` are from; empty: they are exact."""

    source: str
    if TYPE_CHECKING:

        @property
        def splits(self) -> Mapping[str, Any]:
            """Settings of each split, by name: a field of every source, or computed from its fields."""

    @property
    def has_boxes(self) -> bool:
        """True if its images have annotated boxes, on which detectors can be trained."""
        return self.boxes

    @property
    def known_images(self) -> Mapping[str, int]:
        """Number of images by split, where it is known before `prepare` has counted them."""
        return {}

    @property
    def catalogue_entries(self) -> Mapping[str, str]:
        """Entries of the catalogue of official data sets that it is made from: they make its manifest stale."""
        return {}

    def inputs(self) -> list[Path]:
        """List the user's own files and folders whose times tell if the manifest is stale; only those that are there.

        A file that is added to a folder, removed or renamed changes the folder's time. A file that is overwritten in
        place does not, nor does anything further down.
        """
        return []

    def small(self, name: str, complete: Collection[str]) -> "DataSource":
        """Make the data set that takes its place in a rehearsal.

        Args:
            name: of the data set; images of a rehearsal are in datasets/<name>.
            complete: splits in which every class must have an image.

        Returns:
            Garment scenes, or ImageFolders, Coco or Voc, whose files the rehearsal writes.
        """
        return self


SOURCES: KindRegistry[DataSource] = KindRegistry("source")
"""Data sources by the value of their field `source`."""
data_source = SOURCES.add_kind
"""Decorator that adds a class to the data sources."""
DataSet = Annotated[DataSource, SOURCES]


def folders_within(folder: Path) -> list[Path]:
    """List a folder and its sub-folders; nothing if it is not there."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:  # which asks for no file's kind one by one: there may be a hundred thousand
        return [folder, *sorted(Path(entry.path) for entry in entries if entry.is_dir())]
