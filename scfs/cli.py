"""The command line: one thin command per stage. Everything heavy is imported inside the commands."""

import math
import os
import shlex
import sys
import traceback
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from scfs import __version__, paths
from scfs.errors import ScfsError
from scfs.progress import copy_log, log, silence
from scfs.world import find_world

if TYPE_CHECKING:
    from scfs.config.study import Study

PARAMS = Path("params.yaml")
HELP = "Semantics-Consistent Feature Search (ICCV 2023): pre-training and its evaluations, one command per stage."

app = typer.Typer(
    help=HELP, rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False, no_args_is_help=True
)

Run = Annotated[str, typer.Option("--run", metavar="RUN", help="Name of a run in the study.")]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to compute; auto: a GPU if there is one.")]
Workers = Annotated[int | None, typer.Option(min=0, help="Image readers.  [default: half of the spare cores]")]


def main() -> None:
    """Run the command line: exit code 1 and one line on stderr for a known problem, 130 for Ctrl-C."""
    try:
        app()
    except ScfsError as error:
        log(f"scfs: {error}")
        sys.exit(1)
    except OSError as error:  # a full disk, a missing permission: nothing that a traceback would explain
        name = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes | os.PathLike) else ""
        log(f"scfs: {name}{error.strerror or error or type(error).__name__}")
        sys.exit(1)
    except Exception:  # as without this clause, but in the log file too
        log(traceback.format_exc().rstrip())
        sys.exit(1)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"scfs {__version__}")
        raise typer.Exit


@app.callback()
def common(
    context: typer.Context,
    params: Annotated[Path, typer.Option(metavar="FILE", help="The study.")] = PARAMS,
    log_file: Annotated[Path | None, typer.Option("--log", metavar="FILE", help="Copy log lines to FILE.")] = None,
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True)] = False,
) -> None:
    """Take the options that stand before the command."""
    context.obj = params
    silence(find_world().local_rank > 0)  # of the processes on one machine, which say the same until they have met
    # DVC's libraries report their use to their maker unless told not to.
    os.environ.setdefault("DVC_NO_ANALYTICS", "1")
    os.environ.setdefault("ITERATIVE_DO_NOT_TRACK", "1")
    if log_file is not None:
        copy_log(log_file)
        log(f"{datetime.now():%Y-%m-%d %H:%M:%S} scfs {shlex.join(sys.argv[1:])}")


def _study(context: typer.Context) -> "Study":
    """Load the study and fix the threads while torch is not yet imported: OpenMP reads its setting only then."""
    from scfs.config.study import load_study
    from scfs.report import paper
    from scfs.weights import catalogue

    study = load_study(context.obj)
    paper.check(study, str(context.obj))
    catalogue.check(study)
    os.environ["OMP_NUM_THREADS"] = str(study.torch_threads)
    return study


def _member(context: typer.Context, what: str, name: str, known: dict[str, Any]) -> Any:
    """Look up what a user named on the command line."""
    if name not in known:
        raise ScfsError(f"{context.obj}: {what} {name!r}: not among {sorted(known)}")
    return known[name]


@app.command()
def prepare(context: typer.Context, dataset: str) -> None:
    """Make a data set of the study: its images and the manifest that describes them."""
    study = _study(context)
    config = _member(context, "data set", dataset, study.data)
    from scfs.data import prepare as data

    data.prepare(dataset, config, paths.data_folder(dataset))


@app.command()
def pretrain(
    context: typer.Context,
    folder: Annotated[Path | None, typer.Argument(help="Any folder of images: no study needed.")] = None,
    run: Annotated[str | None, typer.Option(metavar="RUN", help="Or a run of the study.")] = None,
    out: Annotated[Path | None, typer.Option(help="FOLDER: where to write.  [default: runs/<FOLDER's name>]")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="FOLDER: a setting, such as optimizer.lr=0.2; repeatable."),
    ] = None,
    method: Annotated[str | None, typer.Option(help="FOLDER: scfs or dino.")] = None,
    backbone: Annotated[str | None, typer.Option(help="FOLDER: resnet18, resnet50, ...")] = None,
    epochs: Annotated[int | None, typer.Option(help="FOLDER: passes over the images.")] = None,
    batch: Annotated[int | None, typer.Option(help="FOLDER: images per step.")] = None,
    unreadable: Annotated[
        Literal["error", "skip"] | None,
        typer.Option(help="FOLDER: stop at an image that cannot be decoded, or leave it out.  [default: error]"),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="FOLDER: torch's threads.  [default: all cores]")] = None,
    device: Device = "auto",
    workers: Workers = None,
    save_every: Annotated[
        float, typer.Option(min=0, envvar="SCFS_SAVE_EVERY", help="Seconds between saved states.")
    ] = 120,
) -> None:
    """Pre-train a backbone: a run of the study, or on any FOLDER of images. Called again, it resumes.

    Several processes, one per GPU: torchrun --nproc-per-node 2 -m -- scfs.cli pretrain FOLDER --threads 4. They share
    each batch, and another number of them resumes the same run; torch's threads are to be the same then.
    """
    given = {"method": method, "backbone": backbone, "epochs": epochs, "batch": batch}
    shortcuts = {key: value for key, value in given.items() if value is not None}
    if (run is None) == (folder is None):
        raise ScfsError("pretrain: give either a FOLDER of images or --run RUN")
    if run is not None and (shortcuts or overrides or out or unreadable or threads):
        raise ScfsError(f"pretrain --run {run}: its settings stand in {context.obj}; options for a FOLDER do not apply")
    options: dict[str, Any] = {"device": device, "save_every": save_every}
    if run is not None:
        study = _study(context)
        options |= {"threads": study.torch_threads, "workers": _workers(workers, study.torch_threads)}
        _pretrain_run(context, study, run, options)
    elif folder is not None:
        threads = threads or max(1, _cores() // find_world().sharing)
        os.environ["OMP_NUM_THREADS"] = str(threads)
        options |= {"threads": threads, "workers": _workers(workers, threads)}
        out = out or Path("runs") / folder.resolve().name
        _pretrain_folder(folder, unreadable or "error", out, overrides or [], shortcuts, options)


def _cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Cores that this process may use: those it is bound to, and no more than a container's quota (cgroup v2) pays."""
    cores = len(os.sched_getaffinity(0))
    try:
        microseconds, period = quota.read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if microseconds == "max" else min(cores, math.ceil(int(microseconds) / int(period)))


def _workers(wanted: int | None, threads: int) -> int:
    """Processes that read images: half of the cores that torch's threads leave, since other jobs may run beside."""
    cores = _cores() // find_world().sharing
    return min(8, max(0, cores - threads) // 2) if wanted is None else wanted


def _pretrain_run(context: typer.Context, study: "Study", run: str, options: dict[str, Any]) -> None:
    settings = study.run(run)
    from scfs.data.manifest import open_split
    from scfs.training import pretrain as training

    images = open_split(paths.manifest(settings.dataset), settings.split)
    weights, result = paths.weights(run), paths.result(run, "pretrain")
    training.pretrain(run, settings, images, folder=None, weights=weights, result=result, **options)


def _pretrain_folder(
    folder: Path,
    unreadable: Literal["error", "skip"],
    out: Path,
    overrides: list[str],
    shortcuts: dict[str, Any],
    options: dict[str, Any],
) -> None:
    name = folder.resolve().name
    from scfs.config.base import parse
    from scfs.config.overrides import parse_overrides
    from scfs.config.pretrain import Pretrain
    from scfs.config.study import merged

    values = merged({"dataset": name, **shortcuts}, parse_overrides(overrides))
    settings: Pretrain = parse(Pretrain, values, "pretrain")
    from scfs.data.folders import image_folder
    from scfs.training import pretrain as training

    images = image_folder(folder, unreadable)
    weights, result = out / "weights.safetensors", out / "pretrain.json"
    training.pretrain(name, settings, images, folder=out / "state", weights=weights, result=result, **options)
    log(f"weights: {weights}")


@app.command()
def evaluate(
    context: typer.Context, evaluation: str, run: Run, device: Device = "auto", workers: Workers = None
) -> None:
    """Apply one evaluation of the study to a run's weights."""
    study = _study(context)
    protocol = _member(context, "evaluation", evaluation, study.evaluate)
    _member(context, "run", run, study.runs)
    from scfs.evaluation import run as stage

    options: dict[str, Any] = {"threads": study.torch_threads, "device": device}
    options["workers"] = _workers(workers, study.torch_threads)
    stage.evaluate(protocol, paths.weights(run), run, paths.result(run, evaluation), **options)


@app.command("import-weights")
def import_weights(
    context: typer.Context,
    file: Annotated[Path | None, typer.Argument(help="A file of others' weights: no study needed.")] = None,
    run: Annotated[str | None, typer.Option(metavar="RUN", help="Or a run of the study.")] = None,
    format: Annotated[str | None, typer.Option(help="FILE: torchvision, timm, dino, official or safetensors.")] = None,
    backbone: Annotated[str | None, typer.Option(help="FILE: resnet18, resnet50, ...")] = None,
    out: Annotated[Path | None, typer.Option(help="FILE: the .safetensors file to write.")] = None,
) -> None:
    """Take over weights that others trained, so that every evaluation runs on them."""
    from scfs.config.base import parse
    from scfs.config.imported import Imported

    if (run is None) == (file is None):
        raise ScfsError("import-weights: give either a FILE or --run RUN")
    if run is not None:
        study = _study(context)
        _member(context, "run", run, study.runs)
        settings = study.imported(run)
        if settings is None:
            raise ScfsError(f"{context.obj}: runs.{run}: has no weights of others: it is trained by scfs pretrain")
        from scfs.weights import imports

        imports.import_run(run, settings, paths.weights(run), paths.result(run, "pretrain"))
    elif file is not None:
        if format is None or backbone is None or out is None:
            raise ScfsError("import-weights FILE: give --format, --backbone and --out")
        values = {
            "weights": f"./{file}" if file.parent == Path() else str(file),
            "format": format,
            "backbone": backbone,
        }
        imported: Imported = parse(Imported, values, "import-weights")
        from scfs.weights import imports

        imports.import_weights(file, format, out, file.stem, imported)


@app.command()
def convert(
    context: typer.Context,
    run: Run,
    to: Annotated[
        Literal["torchvision", "timm", "detectron2", "safetensors"], typer.Option(help="safetensors: our own names.")
    ],
) -> None:
    """Write a run's teacher backbone in another library's names: weights/RUN/LIBRARY.safetensors, or detectron2.pkl."""
    _member(context, "run", run, _study(context).runs)
    from scfs.weights.convert import export as write

    write(paths.weights(run), to, "teacher", paths.converted(run, to))


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="Weights written by scfs.")],
    out: Annotated[Path, typer.Option(help="The file to write.")],
    format: Annotated[
        Literal["torchvision", "timm", "detectron2", "safetensors", "pth"], typer.Option(help="Names; kind of file.")
    ],
    encoder: Annotated[Literal["teacher", "student"], typer.Option(help="Which of the two.")] = "teacher",
) -> None:
    """Write a backbone for use elsewhere: safetensors and pth are in our own names, detectron2 is for MODEL.WEIGHTS."""
    from scfs.weights.convert import export as write

    write(file, format, encoder, out)


@app.command()
def table(context: typer.Context, name: str) -> None:
    """Make a table of the study from the results."""
    study = _study(context)
    _member(context, "table", name, study.tables)
    from scfs.report.tables import write_table

    write_table(study, name, paths.table(study.study, name))


@app.command()
def figure(context: typer.Context, name: str) -> None:
    """Draw a figure of the study from the results."""
    study = _study(context)
    kind = _member(context, "figure", name, study.figures).kind
    from scfs.report.figures import write_figure

    write_figure(study, name, paths.figure(study.study, name, kind))


@app.command()
def report(context: typer.Context) -> None:
    """Write the study's report: one HTML file that needs no other."""
    study = _study(context)
    from scfs.report.page import write_report

    write_report(study, paths.report(study.study))


@app.command()
def summary(context: typer.Context) -> None:
    """Print the study's tables and where its report is."""
    study = _study(context)
    from scfs.report.page import print_summary

    typer.echo(print_summary(study))


@app.command()
def publish(
    context: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(help="Tables and figures.  [default: all]")] = None,
) -> None:
    """Copy tables and figures to results/published, with all that their numbers came from, to be committed."""
    study = _study(context)
    from scfs.report.publish import publish as write

    for path in write(study, names or [], paths.published(study.study)):
        log(f"published: {path}")


@app.command("dvc-file")
def dvc_file(context: typer.Context) -> None:
    """Write the study's dvc.yaml, beside its own file."""
    from scfs.atomic import write_text
    from scfs.dvc_file import dvc_path, render

    study = _study(context)
    write_text(dvc_path(study), render(study))


@app.command()
def sync(context: typer.Context) -> None:
    """After snakemake, dvc repro or dvc pull: tell the other tool, if nothing is left to do."""
    from scfs.sync import sync as tell

    typer.echo(tell(_study(context)))


@app.command()
def plan(
    context: typer.Context,
    gpus: Annotated[int, typer.Option(min=1, help="GPUs to share the work.")] = 1,
    flops_per_second: Annotated[
        float | None, typer.Option(min=1, help="Operations per second of one.  [default: a tenth of an H100's peak]")
    ] = None,
) -> None:
    """Print what the study will cost: jobs, GPU hours, disk, and what the numbers rest on."""
    study = _study(context)
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


if __name__ == "__main__":
    main()
