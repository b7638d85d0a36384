"""The command `pretrain`: a run of a study, or any folder of images."""

import os
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from scfs import paths
from scfs.cli import calls, own_images
from scfs.cli.app import Checkpointing, Colour, Compile, Device, LogTo, SaveEvery, SideStream, Workers, load
from scfs.errors import ScfsError
from scfs.io.progress import log
from scfs.runtime.cpu import usable_cores
from scfs.runtime.world import find_world

if TYPE_CHECKING:
    from scfs.config.pretrain import Optimizer
    from scfs.config.recipes import Choice
    from scfs.config.study import Study


def of_folder(help: str, *names: str, **more: Any) -> Any:
    """Describe an option that applies to a FOLDER alone."""
    return typer.Option(*names, help=f"FOLDER: {help}", **more)


Folders = Annotated[list[Path] | None, typer.Argument(metavar="FOLDER", help="Images, or text files of paths.")]
RunInstead = Annotated[str | None, typer.Option(metavar="RUN", help="Or a run of the study.")]
Out = Annotated[Path | None, of_folder("where to write.  [default: runs/<FOLDER's name>]")]
Overrides = Annotated[
    list[str] | None, of_folder("such as optimizer.lr=0.2; repeatable.", "--set", metavar="KEY=VALUE")
]
# Written out, as --help reads no registry; a test compares them.
NETWORKS = "resnet18, resnet34, resnet50, resnet101, narrow_resnet18, small_stem_resnet18, small_stem_resnet50,"
NETWORKS += " vit_small_16, vit_base_16, narrow_vit_8"
Method = Annotated[str | None, of_folder("scfs, dino, dino_ml, roi_crop, supervised.")]
Backbone = Annotated[str | None, of_folder(f"{NETWORKS}.")]
Recipe = Annotated[Literal["auto", "paper", "small"] | None, of_folder("settings to begin with.  [default: auto]")]
Epochs = Annotated[str | None, of_folder("passes over the images.", metavar="N|auto")]
Batch = Annotated[int | None, of_folder("images per step.", "--batch", "--batch-size")]
Size = Annotated[int | None, of_folder("side of a global crop in pixels.")]
LocalSize = Annotated[int | None, of_folder("side of a local crop in pixels.")]
LocalCrops = Annotated[int | None, of_folder("local crops of an image.")]
ViewSet = Annotated[Literal["photo", "aerial", "grey"] | None, of_folder("kind of the pictures.  [default: photo]")]
Init = Annotated[str | None, of_folder("weights to start from: a file, or a name of public ones.", metavar="WEIGHTS")]
Unreadable = Annotated[Literal["error", "skip"] | None, of_folder("images that cannot be decoded.  [default: error]")]
MaxPixels = Annotated[int | None, of_folder("most pixels of an image.  [default: 2^27]")]
Damaged = Annotated[float | None, of_folder("share of damaged JPEGs.  [default: 0.01]")]
Probe = Annotated[Path | None, of_folder("class sub-folders to probe on.  [default: FOLDER's own]")]
ProbeEvery = Annotated[int | None, of_folder("steps between probes; 0: none.  [default: 1/5]", min=0)]
ProbeHoldout = Annotated[bool | None, of_folder("do not train on what is probed.", "--probe-holdout")]
Keep = Annotated[int | None, of_folder("last probes whose weights are kept.  [default: 1]", min=0)]
Threads = Annotated[int | None, of_folder("torch's threads.  [default: all cores]", min=1)]

SETTINGS = {key: key for key in ("method", "backbone", "epochs", "batch", "init")}
SETTINGS |= {"size": "views.global_size", "local_size": "views.local_size", "local_crops": "views.local_number"}
"""Options for a FOLDER that set a key of `scfs.config.pretrain.Pretrain`, and that key."""
TAKEN = ("unreadable", "max_pixels", "damaged")
"""Options for a FOLDER that say which images are taken: keys of `scfs.config.data.ImageFolders`."""
PROBES = ("probe", "probe_every", "probe_holdout", "keep")
"""Options for a FOLDER that say how it is probed while it is trained on."""
FOLDER_ONLY = {"overrides", "out", "threads", "recipe", "views", *SETTINGS, *TAKEN, *PROBES}
NO_NAMES = ("train", "training", "val", "valid", "validation", "test", "images", "image", "img", "data", "dataset")
"""Names of folders that say nothing of what is in them: the output is called by the folder above, too."""
EXECUTION = ("device", "colour", "save_every", "activation_checkpointing", "compile", "side_stream")
"""Options of the execution, for a run and a FOLDER alike: fields of `scfs.training.pretrain.PretrainExecution`."""
# unsourced: a tenth, as is usual in fine-tuning; at the full rate a few hundred steps undo what the weights know
CAREFUL = 10
"""Divisor of the default rates of a training on a FOLDER that starts from weights."""


def pretrain(
    context: typer.Context,
    folders: Folders = None,
    run: RunInstead = None,
    out: Out = None,
    overrides: Overrides = None,
    recipe: Recipe = None,
    method: Method = None,
    backbone: Backbone = None,
    epochs: Epochs = None,
    batch: Batch = None,
    size: Size = None,
    local_size: LocalSize = None,
    local_crops: LocalCrops = None,
    views: ViewSet = None,
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
    log_to: LogTo = None,
    activation_checkpointing: Checkpointing = False,
    compile: Compile = False,
    side_stream: SideStream = False,
) -> None:
    """Pre-train a backbone: a run of the study, or on a FOLDER.

    A FOLDER is any folder of images, or a text file with a path per line; there may be several. Called again, it
    resumes.

    Several processes, one per GPU: torchrun --nproc-per-node 2 -m -- scfs.cli pretrain FOLDER --threads 4. They share
    each batch, and another number of them resumes the same run; torch's threads are to be the same then.
    """
    given = {name: value for name, value in context.params.items() if value not in (None, [], ())}
    if (run is None) == (not folders):
        raise ScfsError("pretrain: give either a FOLDER of images or --run RUN")
    if run is not None and given.keys() & FOLDER_ONLY:
        raise ScfsError(f"pretrain --run {run}: its settings stand in {context.obj}; options for a FOLDER do not apply")
    if activation_checkpointing and compile:
        raise ScfsError("pretrain: --activation-checkpointing and --compile do not go together; allowed: one of them")
    options = {name: given[name] for name in EXECUTION} | {"log_to": tuple(given.get("log_to", ()))}
    if run is not None:
        _pretrain_run(load(context), run, workers, options)
    elif folders:
        _pretrain_folders(folders, given, workers, options)


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


def _pretrain_folders(folders: list[Path], given: dict[str, Any], workers: int | None, options: dict[str, Any]) -> None:
    name = "-".join(place.resolve().name.removesuffix(".txt") for place in folders)
    above = "" if Path("runs", name).exists() or name not in NO_NAMES else f"{folders[0].resolve().parent.name}-"
    threads = given.get("threads") or max(1, usable_cores() // find_world().core_sharers)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    out = given.get("out") or Path("runs") / f"{above}{name}"
    from scfs.config.base import merged, nested, parse, parse_overrides, parse_value
    from scfs.config.data import ImageFolders
    from scfs.config.pretrain import Pretrain
    from scfs.config.recipes import shown
    from scfs.launch.start import StageCall, start
    from scfs.weights.catalogue import find_weights
    from scfs.weights.initial import own_settings

    if "epochs" in given:
        given["epochs"] = parse_value(given["epochs"], "--epochs")
    shortcuts = (nested(key, given[option]) for option, key in SETTINGS.items() if option in given)
    wanted = merged(reduce(merged, shortcuts, {}), parse_overrides(given.get("overrides", ())))
    if wanted.get("init"):
        wanted["init"] = str(find_weights(str(wanted["init"]))[0])
        if own := own_settings(Path(wanted["init"])):
            log(f"init: {', '.join(shown(own))}, as these weights have it; what you give goes before")
        wanted = merged(own, wanted)
    choices = _choices(folders, given, wanted)
    wanted = {key: value for key, value in wanted.items() if (key, value) != ("epochs", "auto")}
    values = reduce(merged, [*(choice.settings for choice in choices), wanted], {"dataset": name})
    settings = parse(Pretrain, values, "pretrain")
    for choice in choices if find_world().rank == 0 else ():
        log(f"chosen: {', '.join(shown(choice.settings))} ({choice.reason})")
    if settings.init:
        careful = _careful(settings.optimizer, wanted.get("optimizer", {}))
        settings = parse(Pretrain, merged(values, {"optimizer": careful}), "pretrain")
    limits = {key: given[key] for key in TAKEN if key in given}
    taken = parse(ImageFolders, {"source": "folder", "splits": {"all": ""}, **limits}, "pretrain")
    files = {"weights": out / "weights.safetensors", "result": out / "pretrain.json", "folder": out / "state"}
    keywords = {"run": name, "settings": settings, "images": folders, "taken": taken, **files, **options}
    keywords |= {key: given[key] for key in ("probe_every", "keep") if key in given}
    keywords["probe"] = {"folder": given.get("probe"), "holdout": given.get("probe_holdout", False)}
    if given.get("probe") and given.get("probe_holdout"):
        raise ScfsError("pretrain: --probe-holdout is for a FOLDER that is probed itself; allowed: without --probe")
    call = StageCall(calls.pretrain_folder, keywords, threads, workers)
    parameters: dict[str, Any] = {"settings": settings, "folder": ":".join(str(one.resolve()) for one in folders)}
    parameters |= {"holdout": True} if given.get("probe_holdout") else {}
    start("pretrain", name, call, parameters, settings.init_files)
    log(f"weights: {files['weights']}")
    for line in own_images.next_steps(files["weights"], folders[0], settings.backbone):
        log(f"next: {line}")


def _choices(folders: list[Path], given: dict[str, Any], wanted: dict[str, Any]) -> "list[Choice]":
    """Choose what a user does not say, by a look at the images; nothing if there are none, which is said elsewhere."""
    from scfs.config import recipes
    from scfs.data.sources.folders import survey
    from scfs.runtime.device import resolve_device

    seen = recipes.Folder(*survey(folders), gpu=resolve_device(given["device"]).type == "cuda")
    chosen = given.get("recipe", "auto"), seen, wanted, given.get("views", "photo")
    return recipes.choose(*chosen) if seen.images else []


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
