"""The command line. Everything heavy is imported inside the commands."""

from scfs.cli import data, own_images, stages, study, weights  # noqa: F401 (they register their commands)
from scfs.cli.app import app, main

__all__ = ["app", "main"]
