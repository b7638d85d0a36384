"""Recipes of a pre-training on a folder of one's own: settings by the images' number and size and the machine.

paper: the defaults of `scfs.config.pretrain`, with warm-ups that fit few epochs. small: what the study `short` found to
learn within some thousand steps (docs/results.md). Every setting can be given instead.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from scfs.config.pretrain import Pretrain

RECIPES = ("auto", "paper", "small")
MANY_IMAGES = 100_000
"""Number of images from which `auto` is `paper`. # unsourced: ImageNet-100, the smallest set the paper trains on, has
127,000."""
STEPS = {False: 1500, True: 25_000}
"""Optimiser steps of `small` without and with a GPU. # unsourced: meant to take minutes; not measured."""


class Choice(NamedTuple):
    """Settings that belong together, and why they have these values."""

    settings: dict[str, Any]
    """Nested as in a study's file."""
    reason: str


# unsourced: what would make another thing of such pictures is left out, or made rarer and smaller
ABOVE, MEASURED = "no direction is up, and colours tell what grows", "there is no colour, and brightness is measured"
VIEWS = {
    "photo": [],
    "aerial": [Choice({"views": {"vertical_flip": 0.5, "rotate90": 0.5, "hue": 0.02, "grey": 0.05}}, ABOVE)],
    "grey": [Choice({"views": {"saturation": 0.0, "hue": 0.0, "grey": 0.0, "solarize": 0.0}}, MEASURED)],
}
"""Settings of other pictures than photographs, by the name of the set; photo: the paper's."""


@dataclass(frozen=True)
class Folder:
    """What a recipe depends on."""

    images: int
    """Number of images."""
    side: int
    """Shorter side of the images in pixels, median."""
    gpu: bool
    """True if the training runs on a GPU."""


def choose(recipe: str, folder: Folder, given: Mapping[str, Any], views: str = "photo") -> list[Choice]:
    """Choose the settings that are not given.

    Args:
        recipe: of `RECIPES`.
        folder: the images and the machine.
        given: the user's settings, nested as in a study's file; `epochs: auto` is chosen too.
        views: of `VIEWS`.
    """
    if recipe == "auto":
        recipe = "paper" if folder.images >= MANY_IMAGES else "small"
    wanted = {key: value for key, value in given.items() if (key, value) != ("epochs", "auto")}
    choices = _small(folder, wanted) if recipe == "small" else _paper(folder, wanted, given.get("epochs") == "auto")
    choices += VIEWS[views]
    return [Choice(left, reason) for settings, reason in choices if (left := _without(settings, wanted))]


def shown(settings: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield each setting as `--set` takes it."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from shown(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}={str(value).lower() if isinstance(value, bool) else value}"


def _small(folder: Folder, given: Mapping[str, Any]) -> list[Choice]:
    batch = _number(given.get("batch"), min(128 if folder.gpu else 32, max(2, folder.images)))
    epochs = _number(given.get("epochs"), _epochs(STEPS[folder.gpu], batch, folder.images))
    size = (96 if folder.side > 64 else 64) if folder.gpu else 40
    views = given.get("views")
    size = _number(views.get("global_size") if isinstance(views, Mapping) else None, size)
    lr = 0.8
    machine = "a GPU" if folder.gpu else "no GPU"
    layer_head = {"width": 64, "hidden": 256, "output": 128}
    return [
        Choice({"backbone": "resnet18" if folder.gpu else "narrow_resnet18"}, f"{machine}, {folder.images} images"),
        Choice({"batch": batch}, "small batches make more steps of the same time"),
        Choice({"epochs": epochs}, f"about {STEPS[folder.gpu]} steps; more are better"),
        Choice(
            {"views": {"global_size": size, "local_size": size // 2, "local_number": 4, "sigma": [0.1, size / 80]}},
            f"{machine}; the shorter sides of the images are {folder.side} pixels (median)",
        ),
        Choice({"views": {"global_scale": [0.3, 1.0], "local_scale": [0.08, 0.3]}}, "few pixels: larger parts"),
        Choice(
            {
                "head": {"hidden": 512, "bottleneck": 128, "prototypes": 2048, "batch_norm": True},
                "search_head": layer_head,
            },
            "few images cannot fill the paper's 65536 prototypes",
        ),
        Choice(
            {
                "loss": {"teacher_temperature": [0.02, 0.02], "teacher_temperature_warmup": 0},
                "optimizer": {"freeze_last_layer": 0, "teacher_momentum": 0.99},
            },
            "learns from the first step (study short)",
        ),
        Choice(
            {"optimizer": {"lr": lr, "warmup_epochs": epochs / 16, "min_lr": lr * batch / 256 / 100}},
            "the rate ends at a hundredth of its peak",
        ),
    ]


def _paper(folder: Folder, given: Mapping[str, Any], auto: bool) -> list[Choice]:
    paper = Pretrain(dataset="paper")
    optimizer = given.get("optimizer")
    lr = _number(optimizer.get("lr") if isinstance(optimizer, Mapping) else None, paper.optimizer.lr)
    batch = _number(given.get("batch"), paper.batch)
    epochs = _number(given.get("epochs"), _epochs(STEPS[folder.gpu], batch, folder.images) if auto else paper.epochs)
    peak = lr * batch / 256
    reason = "the paper's share of its 200 epochs"
    chosen = [Choice({"epochs": epochs}, f"about {STEPS[folder.gpu]} steps")] if auto else []
    if epochs < paper.epochs:
        share = epochs / paper.epochs
        scaled = {"warmup_epochs": paper.optimizer.warmup_epochs * share, "freeze_last_layer": share}
        warmup = paper.loss.teacher_temperature_warmup * share
        chosen.append(Choice({"optimizer": scaled, "loss": {"teacher_temperature_warmup": warmup}}, reason))
    if peak < paper.optimizer.lr:
        ratio = paper.optimizer.min_lr / paper.optimizer.lr
        chosen.append(Choice({"optimizer": {"min_lr": peak * ratio}}, "the paper's share of its peak rate"))
    return chosen


def _number(given: Any, chosen: Any) -> Any:
    """Return what is given if it can be computed with; the configuration refuses anything else in its own words."""
    return given if isinstance(given, int | float) and given >= 1e-9 else chosen


def _epochs(steps: int, batch: float, images: int) -> int:
    """Number of epochs that make about so many steps; what is left of a batch at an epoch's end is not trained on."""
    return max(1, round(steps / max(1, images // batch)))


def _without(settings: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of `settings` is not given."""
    left: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and isinstance(given.get(key), Mapping):
            value = _without(value, given[key])
            if not value:
                continue
        elif key in given:
            continue
        left[key] = value
    return left
