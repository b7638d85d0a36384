"""Recipes of a folder: what is given stays, what is chosen is sound and says why, whatever the folder and the epochs."""

from collections.abc import Mapping
from functools import reduce
from typing import Any

import pytest

from scfs.config.base import merged, parse
from scfs.config.pretrain import Pretrain
from scfs.config.recipes import MANY_IMAGES, RECIPES, STEPS, VIEWS, Folder, choose
from scfs.errors import ScfsError

FOLDERS = [
    Folder(images, side, gpu) for images in (2, 40, 3068, 20_000, 10**7) for side in (28, 300) for gpu in (False, True)
]


def settings(recipe: str, folder: Folder, given: Mapping[str, Any] | None = None) -> Pretrain:
    given = dict(given or {})
    chosen = [choice.settings for choice in choose(recipe, folder, given)]
    if given.get("epochs") == "auto":
        del given["epochs"]
    return parse(Pretrain, reduce(merged, [*chosen, given], {"dataset": "x"}), "pretrain")


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(
    "given", [{}, {"epochs": 1}, {"epochs": "auto"}, {"batch": 8}, {"epochs": 3, "batch": 2}], ids=str
)
def test_every_choice_is_a_sound_configuration(recipe: str, folder: Folder, given: dict[str, Any]) -> None:
    made = settings(recipe, folder, given)
    optimizer, peak = made.optimizer, made.optimizer.lr * made.batch / 256
    assert optimizer.min_lr <= peak / 10, "the rate falls after its warm-up"
    assert optimizer.warmup_epochs <= made.epochs / 10 and optimizer.freeze_last_layer <= made.epochs / 10
    assert made.loss.teacher_temperature_warmup <= made.epochs / 2
    assert all(choice.reason for choice in choose(recipe, folder, given))


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_is_given_is_not_chosen(recipe: str) -> None:
    given = {
        "batch": 16,
        "epochs": 5,
        "optimizer": {"lr": 0.3},
        "views": {"local_number": 2},
        "head": {"prototypes": 99},
    }
    made = settings(recipe, FOLDERS[0], given)
    dumped = made.model_dump()
    assert merged(dumped, given) == dumped
    assert not any(
        "epochs" in choice.settings or "batch" in choice.settings for choice in choose(recipe, FOLDERS[0], given)
    )


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("images", [500, 3068, 20_000])
def test_small_makes_about_so_many_steps(images: int, gpu: bool) -> None:
    made = settings("small", Folder(images, 100, gpu))
    assert made.epochs * (images // made.batch) == pytest.approx(STEPS[gpu], rel=0.3)


def test_auto_is_papers_for_many_images() -> None:
    many, few = (Folder(images, 300, True) for images in (MANY_IMAGES, MANY_IMAGES - 1))
    assert settings("auto", many) == settings("paper", many) == Pretrain(dataset="x")
    assert settings("auto", few) == settings("small", few) != settings("paper", few)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize(
    "given", [{"epochs": "many"}, {"batch": 0}, {"batch": None}, {"optimizer": {"lr": "x"}}, {"optimizer": 3}]
)
def test_what_cannot_be_is_left_to_the_configuration(recipe: str, given: dict[str, Any]) -> None:
    with pytest.raises(ScfsError, match=r"^pretrain: (epochs|batch|optimizer)"):
        settings(recipe, FOLDERS[3], given)


@pytest.mark.parametrize("recipe", RECIPES)
def test_sets_of_views(recipe: str) -> None:
    folder, given = Folder(100, 300, False), {"views": {"hue": 0.3}}
    chosen = {views: choose(recipe, folder, given, views) for views in VIEWS}
    made = {views: reduce(merged, [c.settings for c in chosen[views]], {"dataset": "x", **given}) for views in VIEWS}
    photo, aerial, grey = (parse(Pretrain, made[views], "pretrain").views for views in ("photo", "aerial", "grey"))
    paper = Pretrain(dataset="x").views
    assert (photo.vertical_flip, photo.rotate90, photo.solarize) == (0, 0, paper.solarize)
    assert (aerial.vertical_flip, aerial.rotate90, aerial.hue) == (0.5, 0.5, 0.3)  # what is given stays
    assert (grey.grey, grey.saturation, grey.solarize, grey.vertical_flip) == (0, 0, 0, 0)
    assert all(choice.reason for choices in chosen.values() for choice in choices)


def test_local_crops_follow_a_given_size() -> None:
    made = settings("small", Folder(100, 300, False), {"views": {"global_size": 32}})
    assert (made.views.global_size, made.views.local_size) == (32, 16)


def test_turned_crops_have_no_boxes() -> None:
    with pytest.raises(ScfsError, match="must be 0 for method roi_crop"):
        settings("small", Folder(100, 300, False), {"method": "roi_crop", "views": {"rotate90": 0.5}})
