"""One thin command per stage of the pipeline."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scfs import paths
from scfs.cli import calls, own_images
from scfs.cli.app import Device, Run, SaveEvery, Workers, app, load, member
from scfs.cli.pretrain import pretrain
from scfs.errors import ScfsError

if TYPE_CHECKING:
    from scfs.config.study import Study


@app.command()
def prepare(context: typer.Context, dataset: str) -> None:
    """Make a data set of the study: images and their manifest."""
    study = load(context)
    config = member(context, "data set", dataset, study.data)
    from scfs.data import prepare as data

    data.prepare(dataset, config, paths.data_folder(dataset))


@app.command()
def inspect(context: typer.Context, dataset: str) -> None:
    """Count what a prepared data set holds, for the report.

    Classes, sizes, duplicates; and a contact sheet.
    """
    study = load(context)
    member(context, "data set", dataset, study.data)
    from scfs.config.identity import prepare_identity
    from scfs.data import inspection

    inspection.inspect(paths.manifest(dataset), prepare_identity(study, dataset), paths.inspection(dataset))


app.command()(pretrain)


@app.command()
def evaluate(
    context: typer.Context,
    evaluation: Annotated[str, typer.Argument(metavar="EVALUATION|WEIGHTS", help="Of the study; or own weights.")],
    run: Annotated[str | None, typer.Option("--run", metavar="RUN", help="Name of a run in the study.")] = None,
    train: own_images.Train = None,
    test: own_images.Test = None,
    out: own_images.Out = None,
    size: own_images.Size = None,
    encoder: own_images.Encoder = "teacher",
    backbone: own_images.Backbone = None,
    threads: own_images.Threads = None,
    device: Device = "auto",
    workers: Workers = None,
) -> None:
    """Evaluate a run's weights, or WEIGHTS on labelled folders.

    A run by one evaluation of the study; of WEIGHTS no study is needed.
    """
    own = {"train": train, "test": test, "out": out, "size": size, "backbone": backbone, "threads": threads}
    if run is None:
        own_images.evaluate_labels(evaluation, {**own, "encoder": encoder, "device": device, "workers": workers})
        return
    if any(value is not None for value in own.values()):
        raise ScfsError(f"evaluate --run {run}: its settings stand in {context.obj}; options for WEIGHTS do not apply")
    study, protocol = _evaluation(context, "evaluate", evaluation, run)
    weights = paths.weights(run)
    options = {"weights": weights, "out": paths.result(run, evaluation), "device": device}
    from scfs.launch.start import StageCall, start

    call = StageCall(calls.evaluate, {"protocol": protocol, "run": run, **options}, study.torch_threads, workers)
    start("evaluate", f"{run}-{evaluation}", call, protocol, [weights, paths.manifest(protocol.dataset)])


@app.command()
def tune(
    context: typer.Context,
    evaluation: str,
    point: str,
    run: Run,
    device: Device = "auto",
    workers: Workers = None,
    save_every: SaveEvery = 120,
) -> None:
    """Fine-tune a run at one point of the grid.

    A point is a rate and a weight decay. Called again, it resumes.
    """
    study, protocol = _evaluation(context, "finetune", evaluation, run)
    member(context, f"grid point of {evaluation}", point, dict.fromkeys(protocol.parts))
    options = {"part": point, "out": paths.part(run, evaluation, point), "device": device, "save_every": save_every}
    _train(calls.tune, study, evaluation, run, workers, weights=paths.weights(run), **options)


@app.command()
def finetune(
    context: typer.Context,
    evaluation: str,
    run: Run,
    device: Device = "auto",
    workers: Workers = None,
    save_every: SaveEvery = 120,
) -> None:
    """Fine-tune a run at the best point of the grid, and test.

    Called again, it resumes.
    """
    study, protocol = _evaluation(context, "finetune", evaluation, run)
    points = [paths.part(run, evaluation, point) for point in protocol.parts]
    options = {"parts": points, "out": paths.result(run, evaluation), "device": device, "save_every": save_every}
    _train(calls.finetune, study, evaluation, run, workers, weights=paths.weights(run), **options)


@app.command()
def detect(
    context: typer.Context,
    evaluation: str,
    trial: str,
    run: Run,
    device: Device = "auto",
    workers: Workers = None,
    save_every: SaveEvery = 120,
) -> None:
    """Train and test a detector from a run's weights.

    By Detectron2, on every GPU. Called again, it resumes.
    """
    study, protocol = _evaluation(context, "detect", evaluation, run)
    member(context, f"trial of {evaluation}", trial, dict.fromkeys(protocol.parts))
    from scfs.config.detection import IMAGES_PER_BATCH
    from scfs.config.weight_formats import converted_path
    from scfs.launch.start import restart_on_every_gpu, submits

    if not submits("detect"):
        restart_on_every_gpu(device, protocol.images_per_batch or IMAGES_PER_BATCH)
    options = {"part": trial, "out": paths.part(run, evaluation, trial), "device": device, "save_every": save_every}
    _train(calls.detect, study, evaluation, run, workers, converted=converted_path(run, "detectron2"), **options)


@app.command()
def average(context: typer.Context, evaluation: str, run: Run) -> None:
    """Put the trials of a detector together: mean and deviation."""
    _, protocol = _evaluation(context, "detect", evaluation, run)
    from scfs.detection.aggregate import aggregate

    trials = [paths.part(run, evaluation, trial) for trial in protocol.parts]
    aggregate(protocol, evaluation, run, trials, paths.result(run, evaluation))


def _evaluation(context: typer.Context, stage: str, evaluation: str, run: str) -> tuple["Study", Any]:
    """Load the study, and look up one of its evaluations that `stage` does and one of its runs."""
    study = load(context)
    known = {name: protocol for name, protocol in study.evaluate.items() if protocol.stage == stage}
    what = "evaluation" if stage == "evaluate" else f"evaluation that {stage} does"
    protocol = member(context, what, evaluation, known)
    member(context, "run", run, study.runs)
    return study, protocol


def _train(
    stage: Callable[..., None], study: "Study", evaluation: str, run: str, workers: int | None, **options: Any
) -> None:
    """Do the training of an evaluation, here or by a job; the function of `calls` has the name of the stage."""
    from scfs.launch.start import StageCall, start

    protocol = study.evaluate[evaluation]
    name = f"{run}-{evaluation}" + (f"-{options['part']}" if "part" in options else "")
    weights, manifest = options.get("weights") or options["converted"], paths.manifest(protocol.dataset)
    keywords = {"protocol": protocol, "evaluation": evaluation, "run": run, "manifest": manifest, **options}
    call = StageCall(stage, keywords, study.torch_threads, workers)
    start(stage.__name__, name, call, {"protocol": protocol, "name": name}, [weights, manifest])


@app.command()
def table(context: typer.Context, name: str) -> None:
    """Make a table of the study from the results."""
    study = load(context)
    member(context, "table", name, study.tables)
    from scfs.report.tables import write_table

    write_table(study, name, paths.table(study.study, name))


@app.command()
def figure(context: typer.Context, name: str) -> None:
    """Draw a figure of the study from the results."""
    study = load(context)
    ending = member(context, "figure", name, study.figures).format
    from scfs.report.figures import write_figure

    write_figure(study, name, paths.figure(study.study, name, ending))


@app.command()
def report(context: typer.Context) -> None:
    """Write the study's report: one HTML file."""
    study = load(context)
    from scfs.report.page import write_report

    write_report(study, paths.report(study.study))
