"""VOC devkits as tools and people make them: other endings, sizes of 0, boxes from 0; photographs with an EXIF turn."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_boxes import files, write_coco, write_voc, xml

from scfs.config.data import Coco, Voc
from scfs.data.inspection import inspect
from scfs.data.opening import open_detection_split
from scfs.data.prepare import prepare
from scfs.data.sources.coco_json import load_coco
from scfs.errors import ScfsError

IMAGES = {"a.b": ((20, 10), [("dog", (1, 1, 20, 10), "0")]), "c": ((16, 12), [("cat", (2, 3, 5, 12), "0")])}


def prepared(folder: Path, list_file: Path) -> Path:
    prepare("mine", Voc(source="voc", splits={"train": [str(list_file)]}), folder / "data")
    return folder / "data" / "manifest.parquet"


def boxes_of(manifest: Path) -> list[list[float]]:
    return [one.bbox for one in load_coco(open_detection_split(manifest, "train").annotations).annotations]


@pytest.fixture
def devkit(tmp_path: Path) -> Path:
    write_voc(tmp_path / "kit", "train", IMAGES)
    return tmp_path / "kit"


@pytest.fixture
def list_file(devkit: Path) -> Path:
    return devkit / "ImageSets" / "Main" / "train.txt"


def rewrite(devkit: Path, name: str, width: int, height: int, *corners: tuple[float, ...]) -> None:
    objects = [("dog", box, None) for box in corners]
    (devkit / "Annotations" / f"{name}.xml").write_text(xml(name, width, height, objects))


@pytest.mark.parametrize("ending", [".png", ".JPG", ".jpeg", ".PNG"])
def test_images_of_other_endings(tmp_path: Path, devkit: Path, list_file: Path, ending: str) -> None:
    image = devkit / "JPEGImages" / "a.b.jpg"
    Image.open(image).save(image.with_suffix(ending))
    image.unlink()
    images = open_detection_split(prepared(tmp_path, list_file), "train").images
    assert images.paths == [f"JPEGImages/a.b{ending}", "JPEGImages/c.jpg"]


@pytest.mark.parametrize("text", ["a.b.jpg\nc.jpg\n", "\ufeffa.b\r\nc\r\n", "a.b.png\nc\n"])
def test_lists_with_endings_or_a_byte_order_mark(tmp_path: Path, devkit: Path, list_file: Path, text: str) -> None:
    list_file.write_text(text, encoding="utf-8")
    images = open_detection_split(prepared(tmp_path, list_file), "train").images
    assert images.paths == ["JPEGImages/a.b.jpg", "JPEGImages/c.jpg"]


def test_of_two_images_of_a_name_the_list_says_which(tmp_path: Path, devkit: Path, list_file: Path) -> None:
    Image.open(devkit / "JPEGImages" / "c.jpg").save(devkit / "JPEGImages" / "c.png")
    list_file.write_text("a.b\nc.png\n")
    images = open_detection_split(prepared(tmp_path, list_file), "train").images
    assert images.paths == ["JPEGImages/a.b.jpg", "JPEGImages/c.png"]


def test_a_size_of_0_is_the_images(tmp_path: Path, devkit: Path, list_file: Path) -> None:
    rewrite(devkit, "c", 0, 0, (2, 3, 5, 12))
    content = json.loads(open_detection_split(prepared(tmp_path, list_file), "train").annotations.read_text())
    assert [(image["width"], image["height"]) for image in content["images"]] == [(20, 10), (16, 12)]
    rewrite(devkit, "c", 0, 12, (2, 3, 5, 12))
    with pytest.raises(ScfsError, match=r"c\.xml: size/width = 0: a whole number from 1 is expected"):
        prepared(tmp_path, list_file)
    rewrite(devkit, "c", 0, 0, (2, 3, 5, 12))
    (devkit / "JPEGImages" / "c.jpg").write_bytes(b"no image")
    with pytest.raises(ScfsError, match=r"c\.xml: .*c\.jpg: size cannot be read: cannot identify image file"):
        prepared(tmp_path, list_file)


# Corners of a box in each image, and what COCO's boxes then are.
ORIGINS: dict[str, tuple[Any, Any, list[list[float]], str]] = {
    "pixels from 1": ((1, 1, 20, 10), (2, 3, 2, 12), [[0, 0, 20, 10], [1, 2, 1, 10]], ""),
    "pixels from 0": ((0, 0, 19, 9), (2, 3, 2, 11), [[0, 0, 20, 10], [2, 3, 1, 9]], "to their last pixel"),
    "edges from 0": ((0, 0.5, 20, 10), (2, 3, 5, 12), [[0, 0.5, 20, 9.5], [2, 3, 3, 9]], "to their edge"),
    "from 0, with a box that only fits from 1": ((0, 1, 4, 4), (1, 1, 17, 12), [[-1, 0, 5, 4], [0, 0, 17, 12]], ""),
}


@pytest.mark.parametrize("what", ORIGINS)
def test_the_origin_is_that_of_the_whole_set(
    tmp_path: Path, devkit: Path, list_file: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, expected, said = ORIGINS[what]
    rewrite(devkit, "a.b", 20, 10, first)
    rewrite(devkit, "c", 16, 12, second)
    manifest = prepared(tmp_path, list_file)
    assert boxes_of(manifest) == expected
    assert (
        "boxes begin at 0, not at 1 as VOC's: read so in the whole set, " + said in capsys.readouterr().err
    ) == bool(said)
    before = files(manifest.parent)
    shutil.rmtree(manifest.parent / "annotations")
    assert boxes_of(manifest) == expected and files(manifest.parent) == before, "made again, they are the same"


def test_folders_of_other_names_are_told_how_to_be_laid_out(tmp_path: Path, devkit: Path, list_file: Path) -> None:
    (devkit / "JPEGImages").rename(devkit / "images")
    with pytest.raises(ScfsError, match=r"kit: no folder JPEGImages: .*DEVKIT/JPEGImages/NAME\.jpg \(links to folders"):
        prepared(tmp_path, list_file)
    (devkit / "JPEGImages").symlink_to("images")
    assert len(boxes_of(prepared(tmp_path, list_file))) == 2


# --- an EXIF turn ---


def turn(path: Path, orientation: int) -> None:
    """Give a stored image EXIF data; its pixels stay."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.open(path).save(path, exif=exif)


@pytest.mark.parametrize("upright", [True, False])
def test_a_turned_photograph_is_annotated_upright_or_as_stored(
    tmp_path: Path, upright: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(content: dict[str, Any]) -> None:
        if upright:
            content["images"][1].update(width=12, height=16)
            content["annotations"][1].update(bbox=[0, 0, 12, 16], segmentation=[[0, 0, 12, 0, 12, 16]])

    split = write_coco(tmp_path, change=change)
    turn(tmp_path / "train" / "deep" / "a.jpg", 6)
    prepare("mine", Coco(source="coco", splits={"train": split}), tmp_path / "data")
    said = "1 images are annotated upright, as EXIF turns them, the first is deep/a.jpg"
    assert (said in capsys.readouterr().err) == upright
    images = open_detection_split(tmp_path / "data" / "manifest.parquet", "train").images
    assert (images.widths[0], images.heights[0]) == (16, 12), "the manifest has sizes as stored"
    inspect(tmp_path / "data" / "manifest.parquet", "x", tmp_path / "stats.json")
    with np.load(tmp_path / "stats.npz") as arrays:
        shapes = [arrays[name].shape for name in arrays if arrays[name].ndim == 3]
    assert ((16, 12, 3) in shapes) == upright and ((12, 16, 3) in shapes) != upright, "samples are shown as annotated"


@pytest.mark.parametrize("orientation", [1, 3, 9])
def test_another_size_needs_a_turn(tmp_path: Path, orientation: int) -> None:
    split = write_coco(tmp_path, change=lambda content: content["images"][2].update(width=8, height=9))
    turn(tmp_path / "train" / "empty.jpg", orientation)
    with pytest.raises(
        ScfsError, match=r"1 of 3 images have another size than train\.json says, the first is empty\.jpg"
    ):
        prepare("mine", Coco(source="coco", splits={"train": split}), tmp_path / "data")


def test_a_turned_photograph_of_a_devkit(tmp_path: Path, devkit: Path, list_file: Path) -> None:
    turn(devkit / "JPEGImages" / "c.jpg", 8)
    rewrite(devkit, "c", 0, 0, (2, 3, 12, 16))
    content = json.loads(open_detection_split(prepared(tmp_path, list_file), "train").annotations.read_text())
    assert (content["images"][1]["width"], content["images"][1]["height"]) == (12, 16), "a size of 0: as it is shown"
