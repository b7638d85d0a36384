"""The command `pretrain`: a run of a study, or any folder of images."""

import os
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from scfs import paths
from scfs.cli import calls
from scfs.cli.app import Checkpointing, Colour, Compile, Device, SaveEvery, SideStream, Workers, load
from scfs.errors import ScfsError
from scfs.io.progress import log
from scfs.runtime.cpu import usable_cores
from scfs.runtime.world import find_world

if TYPE_CHECKING:
    from scfs.config.pretrain import Optimizer
    from scfs.config.recipes import Choice
    from scfs.config.study import Study


Folder = Annotated[Path | None, typer.Argument(help="Any folder of images: no study needed.")]
RunInstead = Annotated[str | None, typer.Option(metavar="RUN", help="Or a run of the study.")]
Out = Annotated[Path | None, typer.Option(help="FOLDER: where to write.  [default: runs/<FOLDER's name>]")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="FOLDER: a setting, such as optimizer.lr=0.2; repeatable."),
]
Method = Annotated[str | None, typer.Option(help="FOLDER: scfs, dino, dino_ml, roi_crop, ...")]
Backbone = Annotated[str | None, typer.Option(help="FOLDER: resnet18, resnet50, ...")]
Recipe = Annotated[
    Literal["auto", "paper", "small"] | None,
    typer.Option(help="FOLDER: where settings that are not given come from.  [default: auto, by the images]"),
]
Epochs = Annotated[str | None, typer.Option(metavar="N|auto", help="FOLDER: passes over the images.")]
Batch = Annotated[int | None, typer.Option(help="FOLDER: images per step.")]
Init = Annotated[str | None, typer.Option(metavar="WEIGHTS", help="FOLDER: file, or public weights, to start from.")]
Unreadable = Annotated[
    Literal["error", "skip"] | None,
    typer.Option(help="FOLDER: stop at an image that cannot be decoded, or leave it out.  [default: error]"),
]
MaxPixels = Annotated[int | None, typer.Option(help="FOLDER: most pixels of an image.  [default: 2^27]")]
Damaged = Annotated[float | None, typer.Option(help="FOLDER: share of damaged JPEGs.  [default: 0.01]")]
Probe = Annotated[Path | None, typer.Option(help="FOLDER: class sub-folders to probe on.  [default: FOLDER's own]")]
ProbeEvery = Annotated[int | None, typer.Option(min=0, help="FOLDER: steps between probes; 0: none.  [default: 1/5]")]
ProbeHoldout = Annotated[bool | None, typer.Option("--probe-holdout", help="FOLDER: do not train on what is probed.")]
Keep = Annotated[int | None, typer.Option(min=0, help="FOLDER: last probes whose weights are kept.  [default: 1]")]
Threads = Annotated[int | None, typer.Option(min=1, help="FOLDER: torch's threads.  [default: all cores]")]

SETTINGS = {"method": "method", "backbone": "backbone", "epochs": "epochs", "batch": "batch", "init": "init"}
"""Options for a FOLDER that set a key of `scfs.config.pretrain.Pretrain`, and that key."""
TAKEN = ("unreadable", "max_pixels", "damaged")
"""Options for a FOLDER that say which images are taken: keys of `scfs.config.data.ImageFolders`."""
PROBES = ("probe", "probe_every", "probe_holdout", "keep")
"""Options for a FOLDER that say how it is probed while it is trained on."""
EXECUTION = ("device", "colour", "save_every", "activation_checkpointing", "compile", "side_stream")
"""Options of the execution, for a run and a FOLDER alike: fields of `scfs.training.pretrain.PretrainExecution`."""
# unsourced: a tenth, as is usual in fine-tuning; at the full rate a few hundred steps undo what the weights know
CAREFUL = 10
"""Divisor of the default rates of a training on a FOLDER that starts from weights."""


def pretrain(
    context: typer.Context,
    folder: Folder = None,
    run: RunInstead = None,
    out: Out = None,
    overrides: Overrides = None,
    recipe: Recipe = None,
    method: Method = None,
    backbone: Backbone = None,
    epochs: Epochs = None,
    batch: Batch = None,
    init: Init = None,
    unreadable: Unreadable = None,
    max_pixels: MaxPixels = None,
    damaged: Damaged = None,
    probe: Probe = None,
    probe_every: ProbeEvery = None,
    probe_holdout: ProbeHoldout = None,
    keep: Keep = None,
    threads: Threads = None,
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
    given = {name: value for name, value in context.params.items() if value not in (None, [], ())}
    if (run is None) == (folder is None):
        raise ScfsError("pretrain: give either a FOLDER of images or --run RUN")
    if run is not None and given.keys() & {"overrides", "out", "threads", "recipe", *SETTINGS, *TAKEN, *PROBES}:
        raise ScfsError(f"pretrain --run {run}: its settings stand in {context.obj}; options for a FOLDER do not apply")
    if activation_checkpointing and compile:
        raise ScfsError("pretrain: --activation-checkpointing and --compile do not go together; allowed: one of them")
    options = {name: given[name] for name in EXECUTION}
    if run is not None:
        _pretrain_run(load(context), run, workers, options)
    elif folder is not None:
        _pretrain_folder(folder, given, workers, options)


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
    start("pretrain", run, call, settings, [manifest, *settings.init_files], hours, job=worth_a_job)


def _pretrain_folder(folder: Path, given: dict[str, Any], workers: int | None, options: dict[str, Any]) -> None:
    name, overrides = folder.resolve().name, given.get("overrides", ())
    threads = given.get("threads") or max(1, usable_cores() // find_world().core_sharers)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    out = given.get("out") or Path("runs") / name
    from scfs.config.base import merged, parse, parse_overrides, parse_value
    from scfs.config.data import ImageFolders
    from scfs.config.pretrain import Pretrain
    from scfs.config.recipes import shown
    from scfs.launch.start import StageCall, start

    shortcuts = {key: given[option] for option, key in SETTINGS.items() if option in given}
    if "epochs" in shortcuts:
        shortcuts["epochs"] = parse_value(shortcuts["epochs"], "--epochs")
    wanted = merged(shortcuts, parse_overrides(overrides))
    choices = _choices(folder, given.get("recipe", "auto"), wanted, options["device"])
    wanted = {key: value for key, value in wanted.items() if (key, value) != ("epochs", "auto")}
    values = reduce(merged, [*(choice.settings for choice in choices), wanted], {"dataset": name})
    settings = parse(Pretrain, values, "pretrain")
    for choice in choices if find_world().rank == 0 else ():
        log(f"chosen: {', '.join(shown(choice.settings))} ({choice.reason})")
    if settings.init:
        from scfs.weights.catalogue import find_weights

        careful = _careful(settings.optimizer, wanted.get("optimizer", {}))
        values = merged(values, {"init": str(find_weights(settings.init)[0]), "optimizer": careful})
        settings = parse(Pretrain, values, "pretrain")
    limits = {key: given[key] for key in TAKEN if key in given}
    taken = parse(ImageFolders, {"source": "folder", "splits": {"all": ""}, **limits}, "pretrain")
    files = {"weights": out / "weights.safetensors", "result": out / "pretrain.json", "folder": out / "state"}
    keywords = {"run": name, "settings": settings, "images": folder, "taken": taken, **files, **options}
    keywords |= {key: given[key] for key in ("probe_every", "keep") if key in given}
    keywords["probe"] = {"folder": given.get("probe"), "holdout": given.get("probe_holdout", False)}
    if given.get("probe") and given.get("probe_holdout"):
        raise ScfsError("pretrain: --probe-holdout is for a FOLDER that is probed itself; allowed: without --probe")
    call = StageCall(calls.pretrain_folder, keywords, threads, workers)
    parameters = {"settings": settings, "folder": str(folder.resolve())}
    parameters |= {"holdout": True} if given.get("probe_holdout") else {}
    start("pretrain", name, call, parameters, settings.init_files)
    log(f"weights: {files['weights']}")


def _choices(folder: Path, recipe: str, wanted: dict[str, Any], device: str) -> "list[Choice]":
    """Choose what a user does not say, by a look at the images; nothing if there are none, which is said elsewhere."""
    from scfs.config import recipes
    from scfs.data.sources.folders import survey
    from scfs.runtime.device import resolve_device

    seen = recipes.Folder(*survey(folder), gpu=resolve_device(device).type == "cuda")
    return recipes.choose(recipe, seen, wanted) if seen.images else []


def _careful(optimizer: "Optimizer", given: dict[str, Any]) -> dict[str, float]:
    """Choose the rates of a training on a FOLDER that does not start from random weights, but for those given."""
    rates = {key: getattr(optimizer, key) / CAREFUL for key in ("lr", "min_lr")}
    # unsourced: half of the warm-up: a random head's first gradients are noise, and the rates are still low
    careful = {**rates, "freeze_backbone": optimizer.warmup_epochs / 2}
    chosen = {key: value for key, value in careful.items() if key not in given}
    shown = ", ".join(f"optimizer.{key} {value:g}" for key, value in chosen.items())
    if chosen:
        log(f"init: {shown}: a tenth of the rates, as the start is not random; the backbone waits for new heads")
    return chosen
