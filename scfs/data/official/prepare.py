"""The source `official`: from archives as they are published."""

from pathlib import Path

from scfs.config.data import Official
from scfs.data.manifest import MANIFEST
from scfs.data.official.prepare_boxes import prepare_boxes
from scfs.data.official.prepare_labelled import prepare_labelled
from scfs.data.sources.registry import PREPARE


@PREPARE.add("official")
def prepare_official(name: str, config: Official, folder: Path) -> None:
    """Prepare a data set with boxes, or one of labelled images.

    Raises:
        ScfsError: see `prepare_boxes` and `prepare_labelled`.
    """
    (prepare_boxes if config.has_boxes else prepare_labelled)(name, config, folder, folder / MANIFEST)
