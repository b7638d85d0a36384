"""One thin command per stage of the pipeline."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from scfs import paths
from scfs.cli import calls
from scfs.cli.app import Checkpointing, Colour, Compile, Device, Run, SaveEvery, SideStream, Workers, app, load, member
from scfs.errors import ScfsError
from scfs.io.progress import log
from scfs.runtime.cpu import usable_cores
from scfs.runtime.world import find_world

if TYPE_CHECKING:
    from scfs.config.pretrain import Pretrain
    from scfs.config.study import Study


@app.command()
def prepare(context: typer.Context, dataset: str) -> None:
    """Make a data set of the study: its images and the manifest that describes them."""
    study = load(context)
    config = member(context, "data set", dataset, study.data)
    from scfs.data import prepare as data

    data.prepare(dataset, config, paths.data_folder(dataset))


@app.command()
def inspect(context: typer.Context, dataset: str) -> None:
    """Count what a prepared data set holds, for the report: classes, sizes, duplicates; and make a contact sheet."""
    study = load(context)
    member(context, "data set", dataset, study.data)
    from scfs.config.identity import prepare_identity
    from scfs.data import inspection

    inspection.inspect(paths.manifest(dataset), prepare_identity(study, dataset), paths.inspection(dataset))


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
    method: Annotated[str | None, typer.Option(help="FOLDER: scfs, dino, dino_ml, roi_crop, ...")] = None,
    backbone: Annotated[str | None, typer.Option(help="FOLDER: resnet18, resnet50, ...")] = None,
    epochs: Annotated[int | None, typer.Option(help="FOLDER: passes over the images.")] = None,
    batch: Annotated[int | None, typer.Option(help="FOLDER: images per step.")] = None,
    unreadable: Annotated[
        Literal["error", "skip"] | None,
        typer.Option(help="FOLDER: stop at an image that cannot be decoded, or leave it out.  [default: error]"),
    ] = None,
    max_pixels: Annotated[int | None, typer.Option(help="FOLDER: most pixels of an image.  [default: 2^27]")] = None,
    damaged: Annotated[float | None, typer.Option(help="FOLDER: share of damaged JPEGs.  [default: 0.01]")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="FOLDER: torch's threads.  [default: all cores]")] = None,
    device: Device = "auto",
    colour: Colour = "auto",
    workers: Workers = None,
    save_every: SaveEvery = 120,
    activation_checkpointing: Checkpointing = False,
    compile: Compile = False,
    side_stream: SideStream = False,
) -> None:
    """Pre-train a backbone: a run of the study, or on any FOLDER of images. Called again, it resumes.

    Several processes, one per GPU: torchrun --nproc-per-node 2 -m -- scfs.cli pretrain FOLDER --threads 4. They share
    each batch, and another number of them resumes the same run; torch's threads are to be the same then.
    """
    given = {"method": method, "backbone": backbone, "epochs": epochs, "batch": batch}
    shortcuts = {key: value for key, value in given.items() if value is not None}
    if (run is None) == (folder is None):
        raise ScfsError("pretrain: give either a FOLDER of images or --run RUN")
    limits = {"unreadable": unreadable, "max_pixels": max_pixels, "damaged": damaged}
    taken = {key: value for key, value in limits.items() if value is not None}
    if run is not None and (shortcuts or overrides or out or taken or threads):
        raise ScfsError(f"pretrain --run {run}: its settings stand in {context.obj}; options for a FOLDER do not apply")
    if activation_checkpointing and compile:
        raise ScfsError("pretrain: --activation-checkpointing and --compile do not go together; allowed: one of them")
    options: dict[str, Any] = {"device": device, "colour": colour, "save_every": save_every}
    options |= {"activation_checkpointing": activation_checkpointing, "compile": compile, "side_stream": side_stream}
    if run is not None:
        _pretrain_run(load(context), run, workers, options)
    elif folder is not None:
        threads = threads or max(1, usable_cores() // find_world().core_sharers)
        os.environ["OMP_NUM_THREADS"] = str(threads)
        out = out or Path("runs") / folder.resolve().name
        from scfs.config.base import merged, parse, parse_overrides
        from scfs.config.data import ImageFolders
        from scfs.config.pretrain import Pretrain

        values = merged({"dataset": folder.resolve().name, **shortcuts}, parse_overrides(overrides or []))
        settings = parse(Pretrain, values, "pretrain")
        options["taken"] = parse(ImageFolders, {"source": "folder", "splits": {"all": ""}, **taken}, "pretrain")
        _pretrain_folder(folder, out, settings, threads, workers, options)


def _pretrain_run(study: "Study", run: str, workers: int | None, options: dict[str, Any]) -> None:
    settings = study.run(run)
    manifest = paths.manifest(settings.dataset)
    files = {"weights": paths.weights(run), "result": paths.result(run, "pretrain")}
    keywords = {"run": run, "settings": settings, "manifest": manifest, **files, **options}
    from scfs.io.results import sha256_of
    from scfs.launch.start import StageCall, start, submits

    worth_a_job = settings.epochs > 0  # without epochs the weights are random
    hours = 0.0
    if worth_a_job and submits("pretrain"):
        from scfs.costs.forecast import forecast

        hours = forecast(run, settings, manifest)
        keywords["sha256"] = sha256_of(manifest)
    call = StageCall(calls.pretrain_split, keywords, study.torch_threads, workers)
    start("pretrain", run, call, settings, [manifest], hours, job=worth_a_job)


def _pretrain_folder(
    folder: Path, out: Path, settings: "Pretrain", threads: int, workers: int | None, options: dict[str, Any]
) -> None:
    name = folder.resolve().name
    files = {"weights": out / "weights.safetensors", "result": out / "pretrain.json", "folder": out / "state"}
    keywords = {"run": name, "settings": settings, "images": folder, **files, **options}
    from scfs.launch.start import StageCall, start

    call = StageCall(calls.pretrain_folder, keywords, threads, workers)
    start("pretrain", name, call, {"settings": settings, "folder": str(folder.resolve())}, [])
    log(f"weights: {files['weights']}")


@app.command()
def evaluate(
    context: typer.Context, evaluation: str, run: Run, device: Device = "auto", workers: Workers = None
) -> None:
    """Apply one evaluation of the study to a run's weights."""
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
    """Fine-tune a run's weights at one point of the grid (rate and weight decay). Called again, it resumes."""
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
    """Fine-tune a run's weights with the best rate and weight decay of the grid, and test. Called again, it resumes."""
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
    """Train and test a detector from a run's weights (Detectron2), on every GPU. Called again, it resumes."""
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
    """Put the trials of a detector together: mean and standard deviation."""
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
    """Write the study's report: one HTML file that needs no other."""
    study = load(context)
    from scfs.report.page import write_report

    write_report(study, paths.report(study.study))
