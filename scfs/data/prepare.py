"""The stage `prepare`: from a data set's configuration to its manifest, images and annotations."""

from pathlib import Path

from scfs.config.data_source import DataSource
from scfs.data.official import prepare as official  # noqa: F401  # the sources register themselves
from scfs.data.scenes import files  # noqa: F401
from scfs.data.sources import coco, folders, tables, voc  # noqa: F401
from scfs.data.sources.registry import PREPARE


def prepare(name: str, config: DataSource, folder: Path) -> None:
    """Write folder/manifest.parquet, last of all, and what else the source makes; repeating it gives the same files.

    Beside the manifest are: for scenes images/ and annotations/, for VOC annotations/, and for official archives what
    scfs.data.official.prepare and prepare_boxes name.

    Raises:
        ScfsError: bad folders, images, annotations, archives or class list, or the disk is full.
    """
    PREPARE[config.source](name, config, folder)
