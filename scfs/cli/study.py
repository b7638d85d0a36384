"""Commands about a whole study."""

from pathlib import Path
from typing import Annotated

import typer

from scfs import paths
from scfs.cli.app import Colour, app, load, member
from scfs.errors import ScfsError
from scfs.io.progress import log

FlopsPerSecond = Annotated[float | None, typer.Option(min=1, help="Of one GPU.  [default: a tenth of an H100's peak]")]


@app.command()
def summary(context: typer.Context) -> None:
    """Print the study's tables and where its report is."""
    study = load(context)
    from scfs.report.page import print_summary

    typer.echo(print_summary(study))


@app.command()
def status(context: typer.Context) -> None:
    """Say how far each pre-training is.

    State, SLURM job, step, loss, speed, hours left.
    """
    study = load(context)
    from scfs.launch.status import status as of_study

    typer.echo(of_study(study))


@app.command()
def logs(
    run: Annotated[str, typer.Argument(help="A run that had a job.")],
    rank: Annotated[int | None, typer.Option(min=0, help="Which process.  [default: the one that failed]")] = None,
    lines: Annotated[int, typer.Option(min=1, help="How many of the last lines.")] = 40,
) -> None:
    """Show what the failed process of a run's last job said."""
    from scfs.launch.status import logs as of_run

    typer.echo(of_run(run, rank, lines))


@app.command()
def unlock() -> None:
    """Clear the lock of a Snakemake that was killed.

    Only if nothing that it started lives on.
    """
    from scfs.pipeline.unlock import unlock as clear

    typer.echo(clear())


@app.command()
def publish(
    context: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(help="Tables and figures.  [default: all]")] = None,
) -> None:
    """Copy tables and figures to results/published.

    With all that their numbers came from, to be committed.
    """
    study = load(context)
    from scfs.report.publish import publish as write

    for path in write(study, names or [], paths.published(study.study)):
        log(f"published: {path}")


@app.command("dvc-file")
def dvc_file(context: typer.Context) -> None:
    """Write the study's dvc.yaml, beside its own file."""
    from scfs.io.atomic import write_text
    from scfs.pipeline.dvc_file import dvc_path, render

    study = load(context)
    if not Path("scfs").is_dir():
        raise ScfsError("scfs: no such folder: stages depend on the code, so a copy of the project is wanted")
    write_text(dvc_path(study), render(study))


@app.command()
def sync(context: typer.Context) -> None:
    """Tell DVC what Snakemake did, or the other way round.

    After snakemake, dvc repro or dvc pull, if nothing is left to do.
    """
    from scfs.pipeline.sync import sync as tell

    typer.echo(tell(load(context)))


@app.command()
def plan(
    context: typer.Context,
    gpus: Annotated[int, typer.Option(min=1, help="GPUs to share the work.")] = 1,
    flops_per_second: FlopsPerSecond = None,
    memory: Annotated[float, typer.Option(min=0.1, help="GB of a GPU's memory.")] = 80,
) -> None:
    """Print what the study will cost: GPU hours, memory, disk.

    Also the number of jobs, and what the numbers rest on.
    """
    study = load(context)
    from scfs.costs import plan as costs

    typer.echo(costs.describe(costs.plan(study), gpus, flops_per_second, memory * 1e9))


@app.command()
def scaling(
    context: typer.Context,
    run: Annotated[str | None, typer.Argument(help="A run of the study.  [default: both of Table 1]")] = None,
    gpus: Annotated[str, typer.Option(help="Numbers of GPUs.")] = "1,8,32,256",
    colour: Colour = "device",
    cores: Annotated[int, typer.Option(min=1, help="CPU cores that read images for a GPU.")] = 8,
    gpus_per_node: Annotated[int, typer.Option(min=1, help="GPUs that NVLink joins.")] = 8,
    network: Annotated[float, typer.Option(min=0.01, help="GB/s between nodes, for each GPU.")] = 25.0,
    flops_per_second: FlopsPerSecond = None,
    cpu_ms: Annotated[float | None, typer.Option(min=0, help="Core time per image.  [default: measured here]")] = None,
) -> None:
    """Print what a pre-training would reach on many GPUs.

    And what binds it: computed from counted work.
    """
    study = load(context) if run else None
    if study and run:
        member(context, "run", run, study.runs)
    from scfs.costs.scaling import report

    options = {"cores": cores, "gpus_per_node": gpus_per_node, "between": network * 1e9, "flops": flops_per_second}
    typer.echo(report(study, run, gpus, colour, cpu_ms, options))


@app.command()
def smoke(
    context: typer.Context,
    study: Annotated[Path | None, typer.Argument(help="The study's file.  [default: that of --params]")] = None,
    cores: Annotated[int, typer.Option(min=1, help="Jobs side by side.")] = 1,
    rows: Annotated[int | None, typer.Option(min=1, help="Rows of each table to keep.  [default: all]")] = None,
) -> None:
    """Rehearse a study: its whole graph on noise.

    With two steps per training, in smoke/<study>/.
    """
    from scfs.smoke.rehearsal import smoke as rehearse

    rehearse(study or context.obj, cores, rows)


@app.command()
def schema() -> None:
    """Print the JSON schema of params.yaml."""
    import json

    from scfs.config.study import params_schema

    typer.echo(json.dumps(params_schema(), indent=2))
