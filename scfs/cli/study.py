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
def status(context: typer.Context) -> None:
    """Say how far each pre-training is: state, SLURM job, step, loss, speed, hours left."""
    study = load(context)
    from scfs.launch.status import status as of_study

    typer.echo(of_study(study))


@app.command()
def logs(
    run: Annotated[str, typer.Argument(help="A run that had a job.")],
    rank: Annotated[int | None, typer.Option(min=0, help="Which process.  [default: the one that failed]")] = None,
    lines: Annotated[int, typer.Option(min=1, help="How many of the last lines.")] = 40,
) -> None:
    """Show what a process of the run's last job said: the one that failed."""
    from scfs.launch.status import logs as of_run

    typer.echo(of_run(run, rank, lines))


@app.command()
def unlock() -> None:
    """Clear the lock of a Snakemake that was killed, if nothing that it started lives on."""
    from scfs.launch.unlock import unlock as clear

    typer.echo(clear())


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
