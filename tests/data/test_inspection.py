"""What the inspection says of tiny data sets whose images were counted and measured by hand."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from tiny_boxes import write_coco, write_voc

from scfs.config.data import Coco, ImageFolders, Voc
from scfs.config.scenes import GarmentScenes
from scfs.data.inspection import evenly, inspect, sample_rows
from scfs.data.opening import open_split
from scfs.data.prepare import prepare
from scfs.data.sources.coco_json import load_coco
from scfs.errors import ScfsError


def write(path, level, size):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (level, level, 0)).save(path)


@pytest.fixture
def folders(tmp_path):
    """Three images of cats and two of dogs to train on, one of each to test, three without labels."""
    for number, size in enumerate([(200, 100), (100, 300), (10, 20)]):
        write(tmp_path / "train" / "cat" / f"{number}.png", number, size)
    for number in range(2):
        write(tmp_path / "train" / "dog" / f"{number}.png", 100 + number, (30, 30))
    shutil.copy(tmp_path / "train" / "cat" / "1.png", tmp_path / "train" / "dog" / "again.png")
    write(tmp_path / "test" / "cat" / "new.png", 50, (30, 30))
    shutil.copy(tmp_path / "train" / "dog" / "0.png", tmp_path / "test" / "dog.png")
    (tmp_path / "test" / "dog").mkdir()
    (tmp_path / "test" / "dog.png").rename(tmp_path / "test" / "dog" / "known.png")
    (tmp_path / "test" / "cat" / "broken.png").write_bytes(b"no image")
    for number in range(3):
        write(tmp_path / "flat" / f"{number}.png", 200 + number, (40, 40))
    return tmp_path


def inspected(folder, config):
    """Numbers and arrays of a data set, which is prepared first."""
    prepare("mine", config, folder / "data" / "mine")
    return read(folder)


def read(folder):
    out = folder / "results" / "mine.json"
    inspect(folder / "data" / "mine" / "manifest.parquet", "0123456789abcdef", out)
    with np.load(out.with_suffix(".npz"), allow_pickle=False) as arrays:
        return json.loads(out.read_text()), dict(arrays)


def own_folders(folder):
    splits = {split: str(folder / split) for split in ("train", "test", "flat")}
    return ImageFolders(source="folder", splits=splits, unreadable="skip")


def test_numbers_of_every_split(folders):
    numbers, _ = inspected(folders, own_folders(folders))
    assert (numbers["dataset"], numbers["identity"], numbers["stage_version"]) == ("mine", "0123456789abcdef", 1)
    train, test, flat = numbers["splits"]
    assert [split["split"] for split in numbers["splits"]] == ["train", "test", "flat"]
    assert [split["images"] for split in numbers["splits"]] == [6, 2, 3]
    assert [split["left_out"] for split in numbers["splits"]] == [0, 1, 0]
    assert train["classes"] == {"names": ["cat", "dog"], "counts": [3, 3]}
    assert test["classes"] == {"names": ["cat", "dog"], "counts": [1, 1]}
    assert flat["classes"] is None and {split["objects"] is None for split in numbers["splits"]} == {True}
    # Widths 200, 100, 10, 30, 30, 100; heights 100, 300, 20, 30, 30, 300.
    assert train["width"] == {"least": 10, "median": 65.0, "greatest": 200}
    assert train["height"] == {"least": 20, "median": 65.0, "greatest": 300}
    manifest = folders / "data" / "mine" / "manifest.parquet"
    assert test["digest"] == open_split(manifest, "test").digest


def test_equal_images_are_found_within_and_between_splits(folders, monkeypatch):
    lines = []
    monkeypatch.setattr("scfs.data.inspection.log", lines.append)
    numbers, _ = inspected(folders, own_folders(folders))
    train, test, flat = numbers["splits"]
    assert train["duplicates"] == {"number": 1, "pairs": [["cat/1.png", "dog/again.png"]]}
    assert test["duplicates"] == flat["duplicates"] == {"number": 0, "pairs": []}
    between = {tuple(pair["splits"]): (pair["number"], pair["pairs"]) for pair in numbers["between"]}
    assert between == {
        ("train", "test"): (1, [["dog/0.png", "dog/known.png"]]),
        ("train", "flat"): (0, []),
        ("test", "flat"): (0, []),
    }
    told = "warning: data set mine: 1 images of split test are in split train too, the first is dog/known.png (there"
    assert lines[0] == "data set mine, split train: of one colour: 6 images, the first is cat/0.png"
    assert len(lines) == 4 and lines[3].startswith(told)


def test_the_contact_sheet_has_small_images_and_their_classes(folders):
    _, arrays = inspected(folders, own_folders(folders))
    assert arrays["train/names"].tolist() == ["cat"] * 3 + ["dog"] * 3
    assert arrays["flat/names"].tolist() == []
    shapes = [arrays[f"train/image_{number}"].shape for number in range(6)]
    # The longer side becomes 96 pixels; what is smaller stays.
    assert shapes == [(48, 96, 3), (96, 32, 3), (20, 10, 3), (30, 30, 3), (30, 30, 3), (96, 32, 3)]
    assert (arrays["train/image_4"] == [101, 101, 0]).all() and arrays["train/image_4"].dtype == np.uint8
    assert not any("boxes" in key for key in arrays)


def test_repeated_it_gives_the_same_bytes(folders):
    inspected(folders, own_folders(folders))
    results = [folders / "results" / f"mine.{ending}" for ending in ("json", "npz")]
    before = [path.read_bytes() for path in results]
    for path in results:
        path.unlink()
    read(folders)
    assert [path.read_bytes() for path in results] == before
    assert str(folders) not in results[0].read_text()


def test_rows_are_spread_over_the_classes():
    assert evenly(3, 24).tolist() == [0, 1, 2]
    assert evenly(48, 24).tolist() == list(range(0, 48, 2))
    assert sample_rows(None, 10).tolist() == list(range(10))
    # 30 classes of four images, in turn: 24 of them, one image each.
    many = np.arange(120) % 30
    assert len(set(many[sample_rows(many, 120)].tolist())) == 24
    # A class of 2 and one of 100 images: both of the one, 22 of the other.
    uneven = np.repeat([0, 1], [2, 100])
    rows = sample_rows(uneven, 102)
    assert np.bincount(uneven[rows]).tolist() == [2, 22] and len(set(rows.tolist())) == 24


def test_boxes_are_scaled_with_their_images(tmp_path):
    def change(content):
        content["images"][1] |= {"width": 192, "height": 96}
        content["annotations"][1] |= {
            "bbox": [20, 10, 40, 30],
            "area": 1200,
            "segmentation": [[20, 10, 60, 10, 60, 40]],
        }

    split = write_coco(tmp_path, change=change)
    Image.new("RGB", (192, 96)).save(tmp_path / "train" / "deep" / "a.jpg")
    numbers, arrays = inspected(tmp_path, Coco(source="coco", splits={"train": split}))
    (train,) = numbers["splits"]
    # A crowd is no object. Manifests list images by path: deep/a.jpg, empty.jpg, z.png.
    assert train["classes"] is None and train["objects"] == {"names": ["cat", "dog"], "counts": [1, 1]}
    assert arrays["train/image_0"].shape == (48, 96, 3)
    assert arrays["train/boxes_0"].tolist() == [[10, 5, 30, 20]]
    assert arrays["train/boxes_1"].shape == (0, 4)
    assert arrays["train/boxes_2"].tolist() == [[2.5, 1, 12.5, 9.25]]


def test_boxes_of_a_devkit_reach_from_edge_to_edge(tmp_path):
    """VOC counts pixels from 1 and includes the last one."""
    file = write_voc(tmp_path / "kit", "train", {"a": ((40, 20), [("dog", (11, 3, 20, 8), "0")])})
    _, arrays = inspected(tmp_path, Voc(source="voc", splits={"train": (str(file),)}))
    assert arrays["train/boxes_0"].tolist() == [[10, 2, 20, 8]]


def test_scenes_have_labels_and_the_boxes_of_their_masks(tmp_path):
    splits = {"one": {"scenes": 3}, "several": {"scenes": 2, "garments": (2, 3), "classes": "held-out"}}
    numbers, arrays = inspected(tmp_path, GarmentScenes(source="garment-scenes", splits=splits))
    one, several = numbers["splits"]
    assert sum(one["classes"]["counts"]) == sum(one["objects"]["counts"]) == 3
    assert several["classes"] is None and sum(several["objects"]["counts"]) >= 4
    file = load_coco(tmp_path / "data" / "mine" / "annotations" / "several.json")
    expected = [box.bbox for box in file.annotations if box.image_id == file.images[1].id]
    found = arrays["several/boxes_1"]
    assert np.concatenate([found[:, :2], found[:, 2:] - found[:, :2]], axis=1).tolist() == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"no image", r"flat/1\.png: not the image that was prepared: run `scfs prepare mine` again"),
     (None, r"flat/1\.png: cannot be read: No such file or directory")],
)  # fmt: skip
def test_an_image_that_has_changed_is_one_line_and_leaves_nothing(folders, content, message):
    prepare("mine", own_folders(folders), folders / "data" / "mine")
    changed = folders / "flat" / "1.png"
    changed.write_bytes(content) if content else changed.unlink()
    with pytest.raises(ScfsError, match=message):
        read(folders)
    assert not (folders / "results").exists()


def test_an_image_that_cannot_be_decoded_is_one_line(folders, monkeypatch):
    """Prepared without decoding it, as a list of many images may be."""
    prepare("mine", own_folders(folders), folders / "data" / "mine")
    monkeypatch.setattr("PIL.Image.Image.convert", broken)
    with pytest.raises(ScfsError, match=r"train/cat/0\.png: cannot be decoded: cut off"):
        read(folders)


def broken(image, mode):
    raise ValueError("cut off")
