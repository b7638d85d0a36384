"""Stripes: images of one colour, made when they are prepared, and again when they are gone."""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from PIL import Image
from pydantic import Field

from scfs.config.data_source import SMALL_IMAGES, DataSource, data_source
from scfs.data.image_set import with_labels
from scfs.data.manifest import MANIFEST, ManifestSplit, write_manifest
from scfs.data.sources.folders import probed_rows
from scfs.data.sources.registry import PREPARE, RESTORE


@data_source
class Stripes(DataSource):
    """Images of stripes."""

    source: Literal["stripes"]
    splits: dict[str, Annotated[int, Field(ge=1)]]
    """Number of images by split."""
    listing: str | None = None
    """A file that makes the manifest stale."""

    @property
    def known_images(self):
        return self.splits

    def inputs(self):
        return [Path(self.listing)] if self.listing else []

    def small(self, name, complete):
        return self.model_copy(update={"splits": dict.fromkeys(self.splits, SMALL_IMAGES)})


def write(folder, split, number):
    (folder / split).mkdir(parents=True, exist_ok=True)
    paths = [f"{index}.png" for index in range(number)]
    for index, path in enumerate(paths):
        pixels = np.full((8, 8, 3), 9 * index, np.uint8)
        pixels[::2] = 255
        Image.fromarray(pixels).save(folder / split / path)
    return paths


@PREPARE.add("stripes")
def prepare_stripes(name, config, folder):
    listed = []
    for split, number in config.splits.items():
        rows, _ = probed_rows(folder / split, write(folder, split, number))
        labelled = with_labels(rows, [index % 2 for index in range(number)])
        listed.append(ManifestSplit(split, split, labelled, classes=("even", "odd")))
    write_manifest(folder / MANIFEST, name, config, listed)


@RESTORE.add("stripes")
def restore_stripes(manifest, images, table, about):
    if not images.root.is_dir():
        write(manifest.parent, images.split, len(images))
