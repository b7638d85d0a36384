"""Scenes of photographs: true outlines, the object's class, the same bytes again, and one line for what is missing."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scfs.config.scenes import PhotoScenes, PhotoSceneSplit
from scfs.data.coco_rle import load_masks
from scfs.data.opening import open_detection_split, open_split
from scfs.data.prepare import prepare
from scfs.data.scenes.compose import CANVAS
from scfs.data.scenes.photographs import compose, disc, photographs
from scfs.errors import ScfsError

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Photographs of one colour, which is their class; one is not square."""
    for number, (name, colour) in enumerate(COLOURS.items()):
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.new("RGB", (40 + number, 40), colour).save(tmp_path / "photos" / name / "one.png")
    return tmp_path / "photos"


def split(photos: Path, **changes: object) -> PhotoSceneSplit:
    return PhotoSceneSplit.model_validate({"scenes": 6, "photos": f"{photos}", **changes})


def test_the_object_has_its_classs_colour_within_its_outline(photos: Path) -> None:
    settings = split(photos)
    listing = photographs(settings)
    for index in range(6):
        scene = compose(settings, listing, "train", 0, index)
        assert scene.pixels.shape == (CANVAS, CANVAS, 3)
        (thing,) = scene.objects
        rows, columns = (np.flatnonzero(thing.mask.any(axis)) for axis in (1, 0))
        assert 32 <= len(rows) <= 48 and len(rows) == len(columns)
        assert thing.mask.sum() == pytest.approx(np.pi / 4 * len(rows) ** 2, rel=0.05)
        inner = thing.mask & np.roll(thing.mask, 2, 0) & np.roll(thing.mask, -2, 0)
        inner &= np.roll(thing.mask, 2, 1) & np.roll(thing.mask, -2, 1)
        assert (scene.pixels[inner] == COLOURS[listing.classes[thing.label]]).all()


def test_several_objects_hide_each_other_and_have_their_own_masks(photos: Path) -> None:
    settings = split(photos, objects=[3, 3], fragments=[0, 0])
    scene = compose(settings, photographs(settings), "train", 0, 0)
    assert len(scene.objects) == 3
    assert sum(thing.mask.astype(int) for thing in scene.objects).max() == 1


def test_the_disc_is_round() -> None:
    assert disc(64).sum() == pytest.approx(np.pi * 32**2, rel=0.01)
    assert (disc(64) == disc(64).T).all() and (disc(64) == disc(64)[::-1]).all()


def test_prepared_labelled_annotated_and_made_again(photos: Path, tmp_path: Path) -> None:
    config = PhotoScenes(source="photo-scenes", splits={"train": split(photos), "val": split(photos, scenes=3)})
    for name in ("a", "b"):
        prepare("scenes", config, tmp_path / name)
    manifest = tmp_path / "a/manifest.parquet"
    assert manifest.read_bytes() == (tmp_path / "b/manifest.parquet").read_bytes()
    train = open_split(manifest, "train")
    assert train.classes == ("blue", "green", "red") and len(train) == 6
    before = {path: (train.root / path).read_bytes() for path in train.paths}
    annotations = open_detection_split(manifest, "train").annotations
    labels = {image["id"]: image["file_name"] for image in json.loads(annotations.read_text())["images"]}
    for entry in json.loads(annotations.read_text())["annotations"]:
        row = train.paths.index(labels[entry["image_id"]])
        assert entry["category_id"] == train.require_labels()[row] + 1
    masks = load_masks(annotations)
    (train.root / train.paths[0]).unlink()
    annotations.unlink()
    again = open_split(manifest, "train")
    assert {path: (again.root / path).read_bytes() for path in again.paths} == before
    assert all((load_masks(annotations)[path] == mask).all() for path, mask in masks.items())


def test_what_is_missing_is_one_line(photos: Path, tmp_path: Path) -> None:
    flat = tmp_path / "photos" / "red"
    for folder, said in ((flat, "must lie in a sub-folder for each class"), (tmp_path / "none", "no such folder")):
        config = PhotoScenes(source="photo-scenes", splits={"train": split(folder)})
        with pytest.raises(ScfsError, match=rf"^{folder}: .*{said}$"):
            prepare("scenes", config, tmp_path / "c")
    (photos / "red/one.png").write_bytes(b"no image")
    with pytest.raises(ScfsError, match=r"red/one\.png"):
        prepare("scenes", PhotoScenes(source="photo-scenes", splits={"train": split(photos)}), tmp_path / "d")
    assert not (tmp_path / "d/manifest.parquet").exists()
