"""Commands about data sets: the official ones and their archives, and those that are prepared."""

from pathlib import Path
from typing import Annotated

import typer

from scfs import paths
from scfs.cli.app import app

FOLDER = paths.archives()

data = typer.Typer(help="Official data sets: their archives, licences and sizes.", no_args_is_help=True)
app.add_typer(data, name="data")

Archives = Annotated[Path, typer.Option("--archives", metavar="FOLDER", help="Where the archives are, by set.")]


@data.command("list")
def list_sets(archives: Archives = FOLDER) -> None:
    """List the sets, and which of their archives are there."""
    from scfs.data.archives.listing import list_all

    typer.echo(list_all(archives))


@data.command()
def info(name: str, archives: Archives = FOLDER) -> None:
    """Print what is known of a set.

    Licence, citation, splits, and where its archives come from.
    """
    from scfs.data.archives.listing import describe

    typer.echo(describe(name, archives))


@data.command()
def verify(dataset: str) -> None:
    """Hold the images of a prepared data set to its manifest.

    Names changed, missing and extra files; exit code 1 if there are any.
    """
    from scfs.data.verify import verify as check

    report = check(paths.manifest(dataset))
    typer.echo(str(report))
    if not report.sound:
        raise typer.Exit(1)
