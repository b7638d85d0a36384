import hashlib

import pytest
from PIL import Image

from scfs.config.data import ClassList, ImageFolders
from scfs.data.opening import open_split
from scfs.data.prepare import prepare
from scfs.data.sources.published_lists import read_class_list
from scfs.errors import ScfsError

URL = "https://example.org/list.txt"


def write_list(path, text):
    path.write_text(text)
    return ClassList(file=str(path), sha256=hashlib.sha256(text.encode()).hexdigest(), url=URL)


@pytest.fixture
def folder(tmp_path):
    for split in ("train", "val"):
        for name in ("n01", "n02", "n03"):
            place = tmp_path / split / name
            place.mkdir(parents=True)
            Image.new("L", (8, 8)).save(place / f"{name}_1.png")
    return tmp_path


def prepared(folder, class_list, **more):
    splits = {split: str(folder / split) for split in ("train", "val")}
    prepare("mine", ImageFolders(source="folder", splits=splits, class_list=class_list, **more), folder / "mine")
    return folder / "mine" / "manifest.parquet"


@pytest.mark.parametrize("text", ["n03 n01", "n03\nn01\n", "n03  n01\r\n"])
def test_only_listed_classes_are_taken(folder, text):
    manifest = prepared(folder, write_list(folder / "list.txt", text))
    for split in ("train", "val"):
        images = open_split(manifest, split)
        assert images.paths == ["n01/n01_1.png", "n03/n03_1.png"]
        assert images.classes == ("n01", "n03")
        assert images.labels.tolist() == [0, 1]


def test_without_a_list_all_are_taken(folder):
    assert open_split(prepared(folder, None), "train").classes == ("n01", "n02", "n03")


def test_the_list_is_missing(folder):
    wanted = ClassList(file=str(folder / "list.txt"), sha256="0" * 64, url=URL)
    line = rf"list.txt: class list cannot be read: No such file or directory: get it from {URL} and put it there$"
    with pytest.raises(ScfsError, match=line):
        prepared(folder, wanted)


def test_another_list(folder):
    wanted = write_list(folder / "list.txt", "n01 n02")
    (folder / "list.txt").write_text("n01 n03")
    found = hashlib.sha256(b"n01 n03").hexdigest()
    with pytest.raises(ScfsError, match=f"not the class list of {URL}: its SHA-256 is {found}, wanted {wanted.sha256}"):
        read_class_list(wanted)


def test_an_empty_list(folder):
    with pytest.raises(ScfsError, match="class list names no classes"):
        read_class_list(write_list(folder / "list.txt", " \n"))


def test_a_listed_class_has_no_folder_or_no_images(folder):
    with pytest.raises(ScfsError, match=r"train: no sub-folder 'n04': 2 of the 3 of the class list are missing"):
        prepared(folder, write_list(folder / "list.txt", "n01 n04 n05"))
    (folder / "train" / "n06").mkdir()
    with pytest.raises(ScfsError, match=r"train/n06: no images in it"):
        prepared(folder, write_list(folder / "list.txt", "n01 n06"))


def test_another_number_of_images_is_a_warning(folder, capfd):
    prepared(folder, None, images={"train": 3, "val": 4})
    said = capfd.readouterr().err
    assert "3 images of split val, 4 were expected" in said
    assert "split train" not in said


def test_a_number_of_images_of_an_unknown_split(folder):
    with pytest.raises(ValueError, match=r"images.test: not among the splits \['train', 'val'\]"):
        prepared(folder, None, images={"test": 1})
