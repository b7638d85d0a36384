"""The stage `pretrain`: from images to exported weights and a record of how they came about."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from scfs.config.data import ImageFolders
from scfs.config.identity import STAGE_VERSIONS, identity
from scfs.config.pretrain import Pretrain
from scfs.data.manifest import ImageSet
from scfs.data.opening import open_split
from scfs.data.sources.folders import image_folder
from scfs.errors import ScfsError
from scfs.io.atomic import write_text
from scfs.io.progress import log
from scfs.io.results import sha256_of, write_result
from scfs.model.ops.compile import compile_errors
from scfs.paths import run_folder
from scfs.runtime import collectives
from scfs.runtime.device import device_memory, resolve_precision
from scfs.runtime.world import World, find_world
from scfs.training.base import Execution, hold_run, log_sharing, prepare_process
from scfs.training.loop import Labels, Pretraining, train
from scfs.training.memory import expected, memory_advice
from scfs.training.probes import Probes
from scfs.views.colour_batched import Colour, resolve_colour
from scfs.views.loader import ViewBatches
from scfs.weights.initial import Initial, read_initial
from scfs.weights.store import Weights, save_weights


def pretrain_split(run: str, settings: Pretrain, manifest: Path, *, sha256: str | None = None, **options: Any) -> None:
    """Pre-train on the split that the settings name.

    Args:
        run: name of the run.
        settings: everything that defines it.
        manifest: the data set's.
        sha256: of the manifest when the job was submitted; None: any.
        options: see `pretrain`.

    Raises:
        ScfsError: see `pretrain`; the images are others by now.
    """
    if sha256 not in (None, sha256_of(manifest)):
        raise ScfsError(f"{manifest}: has changed since the job was submitted; start the run again")
    images = open_split(manifest, settings.split)
    pretrain(run, settings, images, **options)


def pretrain_folder(
    run: str, settings: Pretrain, images: list[Path], taken: ImageFolders, prepare_probe: Callable, **options: Any
) -> None:
    """Pre-train on all images of some folders.

    Args:
        run: name of the run.
        settings: everything that defines it.
        images: the folders, or text files with a path per line.
        taken: which of them are taken.
        prepare_probe: gives the images to train on and a probe or None, from the images, `taken` and the side of the
            global crops (scfs.evaluation.during_training).
        options: see `pretrain`.

    Raises:
        ScfsError: see `pretrain` and `scfs.data.sources.folders.image_folder`.
    """
    found = image_folder(images, taken)
    if settings.epochs:
        found, options["probe"] = prepare_probe(found, taken, settings.views.global_size)
    pretrain(run, settings, found, **options)


@dataclass(frozen=True)
class PretrainExecution(Execution):
    """How a pre-training is executed."""

    colour: str = "auto"
    """auto, cpu or device, which augments there what the CPUs have only cropped; part of the identity, since single
    pixels come out otherwise."""
    activation_checkpointing: bool = False
    """Keep fewer maps in memory and compute them again."""
    compile: bool = False
    """Let torch.compile fuse operations; part of the identity, as sums are rounded otherwise. Not together with
    `activation_checkpointing`, which the command line refuses."""
    side_stream: bool = False
    """Let a GPU make the teacher's maps beside the student's, in more memory."""
    log_to: tuple[str, ...] = ()
    """Further loggers (scfs.training.loggers)."""
    probe: Any = None
    """A measurement of the teacher during the training (scfs.training.probes); changes nothing of it."""
    probe_every: int | None = None
    """Steps between two probes; None: a tenth of the training."""
    keep: int = 1
    """Number of the last probes whose weights are kept, beside the best ones."""


def pretrain(
    run: str, settings: Pretrain, images: ImageSet, weights: Path, result: Path, folder: Path | None = None, **how: Any
) -> None:
    """Train `run` on `images`, resuming where an earlier execution stopped, and export it.

    Several processes (torchrun, SLURM) share every batch, and the first writes. Another number of them may resume.

    Args:
        run: name of the run.
        settings: everything that defines it.
        images: the split to train on; only the method supervised uses its labels.
        weights: the safetensors file to write.
        result: the JSON file to write (curves, last losses, identity).
        folder: resumable state; default: runs/<run>-<identity>.
        how: see `PretrainExecution`.

    Raises:
        ScfsError: see `scfs.training.loop.train`; the run folder cannot be used, or another process trains this run;
            the method is supervised and there are no two classes; torch.compile fails, or is asked for by several CPUs.
    """
    execution = PretrainExecution(**how)
    device, precision, colour = _resolve(execution, settings)
    computed = {"torch_threads": execution.threads, "precision": precision, "device": device.type}
    if settings.epochs:  # named only if they are not what runs had before there was a choice: identities stay
        computed |= ({"colour": colour} if colour == "device" else {}) | ({"fused": True} if execution.compile else {})
    initial = read_initial(Path(settings.init), settings.backbone) if settings.init else None
    start = {"init": initial.source["sha256"]} if initial else {}
    placeless = settings.model_copy(update={"init": None})  # where that file lies is not part of what it is
    own_identity = identity("pretrain", {"settings": placeless, **computed}, {"dataset": images.digest, **start})
    folder = folder or run_folder(run, own_identity)
    labels = labels_of(images) if settings.learns_from_labels else None
    with collectives.process_group(device) as world:
        data = view_batches(images, settings, world, colour) if settings.epochs else None
        with hold_run(folder, own_identity):
            rest = labels, execution.activation_checkpointing, execution.compile, execution.side_stream
            training = Pretraining(settings, len(images) // settings.batch, device, precision, own_identity, *rest)
            training.made_of = {**placeless.flattened(), **computed, "images": images.digest, **start}
            training.log_to = execution.log_to
            training.more = f"; for more epochs start another one from it (--init {weights}, or init of a run)"
            resolved = settings.model_copy(update={"precision": precision})
            room = resolved, device_memory(device), execution.activation_checkpointing, world.size
            log_start(run, training, images, folder, expected(*room) if data and device.type == "cuda" else "")
            if initial:  # a training that has not done a step then stands at the weights that it starts from
                log_init(run, training, initial, training.start_from(initial))
            about = Weights(run, own_identity, settings.model_dump(mode="json"), images.digest, precision)
            about.classes.extend(images.classes if labels else ())
            export = partial(save_training, training, about)
            if execution.probe and execution.probe_every != 0:
                training.probes = Probes(execution, training.total, weights.with_name("probes"), export)
            training.resume(folder)
            with compile_errors() if execution.compile else nullcontext(), memory_advice(run, *room):
                rates = train(training, data, folder, execution.workers, execution.save_every) if data else {}
            if not collectives.is_first():
                return
            export(weights)
    used = {"device": str(device), "precision": precision, "colour": colour, "workers": execution.workers}
    used |= {"fused": execution.compile, "aside": execution.side_stream, "processes": world.size, **rates}
    write_text(result.with_name("curve.csv"), curve_table(training.metrics.curve))
    record = _record(training, images, about, sha256_of(weights), execution.threads)
    record |= {"init": initial.source} if initial else {}
    write_result(result, record, {**used, "seconds": round(training.seconds(), 1)})


def save_training(training: Pretraining, about: Weights, path: Path) -> None:
    """Write both encoders and their heads as they are now."""
    tensors = {k: v for k, v in training.model.state_dict().items() if k.startswith(("student.", "teacher."))}
    save_weights(path, tensors, about)


def _resolve(execution: PretrainExecution, settings: Pretrain) -> tuple[torch.device, str, Colour]:
    """Choose device, precision and the place of the colours, and set this process up.

    Raises:
        ScfsError: one of them is not to be had here.
    """
    device = prepare_process(execution.threads, execution.device)
    if execution.compile and device.type == "cpu" and find_world().size > 1:
        raise ScfsError(
            "pretrain: --compile by several processes needs GPUs, and these compute on cpu; allowed: without it"
        )
    views = settings.views
    sizes = [views.global_size, views.local_size] if views.local_number else [views.global_size]
    precision = resolve_precision(settings.precision, device, min(sizes))
    return device, precision, resolve_colour(execution.colour, device)


def _record(
    training: Pretraining, images: ImageSet, about: Weights, weights_sha256: str, threads: int
) -> dict[str, Any]:
    """Make the result: curves of the training, their last values, its warnings, and what it was made from."""
    metrics = training.metrics
    last = {name: values[-1] for name, values in metrics.curve.items() if name not in ("epoch", "step", "lr")}
    if last:
        last["loss_data_over_ln_k"] = last["loss_data"] / metrics.ln_k
    return {
        "run": about.run,
        "identity": about.identity,
        "values": last,
        "curve": metrics.curve,
        "ln_k": metrics.ln_k,
        "warnings": metrics.warnings,
        "settings": about.settings,
        "dataset": {"name": images.name, "split": images.split, "images": len(images), "digest": images.digest},
        "weights": {"sha256": weights_sha256},
        "torch_threads": threads,
        "precision": about.precision,
        "stage_version": STAGE_VERSIONS["pretrain"],
    }


def curve_table(curve: dict[str, list[float]]) -> str:
    """Write the curves as CSV, a line per epoch; the header alone for weights that were not trained."""
    rows = [list(curve) or ["epoch"], *(map(repr, values) for values in zip(*curve.values(), strict=True))]
    return "".join(",".join(row) + "\n" for row in rows)


def view_batches(images: ImageSet, settings: Pretrain, world: World, colour: Colour = "cpu") -> ViewBatches:
    """Make the run's batches, of which this process gets its part."""
    order = settings.batch, settings.epochs, settings.seed
    return ViewBatches(images, settings.views, *order, parts=settings.accumulate, world=world, colour=colour)


def labels_of(images: ImageSet) -> Labels:
    """Get the labels to learn from.

    Raises:
        ScfsError: there are none, or all images are of one class.
    """
    labels = images.require_labels()
    if len(images.classes) < 2:
        raise ScfsError(
            f"data set {images.name}, split {images.split}: classes = {list(images.classes)}: supervised training"
            " needs two or more"
        )
    return Labels(torch.from_numpy(labels), len(images.classes))


def log_start(run: str, training: Pretraining, images: ImageSet, folder: Path, memory: str = "") -> None:
    """Log what will happen before it does: batch and rate are what users most often get wrong."""
    settings = training.settings
    if not settings.epochs:
        log(f"{run}: random initial weights of {settings.backbone}, seed {settings.seed}")
        return
    peak = settings.optimizer.lr * settings.batch / 256
    log(
        f"{run}: {settings.method}, {settings.backbone}, {len(images)} images, batch {settings.batch},"
        f" {settings.epochs} epochs = {training.total} steps, peak lr {peak:g}, {training.device},"
        f" {training.precision}, seed {settings.seed}; state in {folder}"
    )
    log_sharing(run, settings.batch, settings.accumulate)
    if memory:
        log(f"{run}: memory {memory}")


def log_init(run: str, training: Pretraining, initial: Initial, new: list[str]) -> None:
    """Log what the training starts from, and what of it is random all the same."""
    made = f", which scfs trained as {initial.source['run']}" if "run" in initial.source else ""
    held = f"; the backbone is held for {training.frozen_steps} steps" if training.frozen_steps else ""
    heads = f"new are {', '.join(new)}{held}" if new else "heads too"
    log(f"{run}: starts from {training.settings.init}{made}; {heads}")
