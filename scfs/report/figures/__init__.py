"""Figures. Each module of this package is one kind, with its settings, its texts and its drawing."""

from pathlib import Path

from scfs.config.study import Study
from scfs.io.atomic import write_bytes


def write_figure(study: Study, name: str, out: Path) -> None:
    """Write a figure of the study; the report embeds the same drawing.

    Raises:
        ScfsError: a result is missing, or is not of the run's present weights and settings.
    """
    write_bytes(out, study.figures[name].draw(study))
