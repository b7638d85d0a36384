"""Commands about a whole study."""

from pathlib import Path
from typing import Annotated

import typer

from scfs import paths
from scfs.cli.app import app, load
from scfs.progress import log


@app.command()
def summary(context: typer.Context) -> None:
    """Print the study's tables and where its report is."""
    study = load(context)
    from scfs.report.page import print_summary

    typer.echo(print_summary(study))


@app.command()
def publish(
    context: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(help="Tables and figures.  [default: all]")] = None,
) -> None:
    """Copy tables and figures to results/published, with all that their numbers came from, to be committed."""
    study = load(context)
    from scfs.report.publish import publish as write

    for path in write(study, names or [], paths.published(study.study)):
        log(f"published: {path}")


@app.command("dvc-file")
def dvc_file(context: typer.Context) -> None:
    """Write the study's dvc.yaml, beside its own file."""
    from scfs.atomic import write_text
    from scfs.dvc_file import dvc_path, render

    study = load(context)
    write_text(dvc_path(study), render(study))


@app.command()
def sync(context: typer.Context) -> None:
    """After snakemake, dvc repro or dvc pull: tell the other tool, if nothing is left to do."""
    from scfs.sync import sync as tell

    typer.echo(tell(load(context)))


@app.command()
def plan(
    context: typer.Context,
    gpus: Annotated[int, typer.Option(min=1, help="GPUs to share the work.")] = 1,
    flops_per_second: Annotated[
        float | None, typer.Option(min=1, help="Operations per second of one.  [default: a tenth of an H100's peak]")
    ] = None,
) -> None:
    """Print what the study will cost: jobs, GPU hours, disk, and what the numbers rest on."""
    study = load(context)
    from scfs import plan as costs

    typer.echo(costs.describe(costs.plan(study), gpus, flops_per_second))


@app.command()
def smoke(
    context: typer.Context,
    study: Annotated[Path | None, typer.Argument(help="The study's file.  [default: that of --params]")] = None,
    cores: Annotated[int, typer.Option(min=1, help="Jobs side by side.")] = 1,
    rows: Annotated[int | None, typer.Option(min=1, help="Rows of each table to keep.  [default: all]")] = None,
) -> None:
    """Rehearse a study: its whole graph with two steps per training on noise, in smoke/<study>/."""
    from scfs.smoke import smoke as rehearse

    rehearse(study or context.obj, cores, rows)


@app.command()
def schema() -> None:
    """Print the JSON schema of params.yaml."""
    import json

    from scfs.config.schema import params_schema

    typer.echo(json.dumps(params_schema(), indent=2))
