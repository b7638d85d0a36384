import shutil

import numpy as np
import pytest
from archive_packing import mat, structs, taken, write
from archive_writers import CAR_NAMES, cars
from torchvision.datasets import StanfordCars

from scfs.data.official.parsers import cars as official
from scfs.errors import ScfsError

TRAIN_LABELS = "devkit/cars_train_annos.mat"
FIELDS = ("class", "fname")


def test_records_are_what_torchvision_reads(tmp_path):
    archives = write(cars(), tmp_path)
    root = tmp_path / "stanford_cars"
    for role in ("train", "test", "devkit"):
        shutil.unpack_archive(archives[role], root, "gztar")
    shutil.copy(archives["test_labels"], root)
    found = taken(official.parse(archives)[1])
    for split, number in (("train", 4), ("test", 2)):
        theirs = StanfordCars(tmp_path, split)
        assert official.parse(archives)[0] == tuple(theirs.classes)
        folders = [name.replace("C/V", "C-V") for name in theirs.classes]
        wanted = {
            f"{folders[label]}/{path.removeprefix(f'{root}/cars_{split}/')}": label for path, label in theirs._samples
        }
        assert {path: label for part, path, label, _ in found if part == split} == wanted
        assert len(wanted) == number
    for split, path, _, content in found:
        assert content == (root / f"cars_{split}" / path.rpartition("/")[2]).read_bytes()


def test_records_by_hand(tmp_path):
    archives = write(cars(), tmp_path)
    assert official.parse(archives)[0] == CAR_NAMES
    assert [row[:3] for row in taken(official.parse(archives)[1])] == [
        ("train", "Ram C-V Cargo Van Minivan 2012/00001.jpg", 2),
        ("train", "AM General Hummer SUV 2000/00002.jpg", 0),
        ("train", "Ram C-V Cargo Van Minivan 2012/00003.jpg", 2),
        ("train", "Acura RL Sedan 2012/00004.jpg", 1),
        ("test", "Acura RL Sedan 2012/00001.jpg", 1),
        ("test", "Ram C-V Cargo Van Minivan 2012/00002.jpg", 2),
    ]


def refused(tmp_path, line, role, name, content):
    archives = cars()
    if content is None:
        del archives[role].members[name]
    else:
        archives[role].members[name] = content
    with pytest.raises(ScfsError, match=line):
        list(official.parse(write(archives, tmp_path))[1])


def annotations(*rows):
    return structs("annotations", FIELDS, rows)


GOOD = ((3, "00001.jpg"), (1, "00002.jpg"), (3, "00003.jpg"), (2, "00004.jpg"))


@pytest.mark.parametrize(
    "content, line",
    [
        (
            annotations(*GOOD[:3], (4, "00004.jpg")),
            r"cars_train_annos\.mat: annotations\(4\): 4 must be a number from 1 to 3",
        ),
        (annotations(*GOOD[:3], (0, "00004.jpg")), r"annotations\(4\): 0 must be a number from 1 to 3"),
        (annotations(*GOOD[:3], (np.nan, "00004.jpg")), r"annotations\(4\): nan must be a number from 1 to 3"),
        (annotations(*GOOD[:3], ("car", "00004.jpg")), r"annotations\(4\): 'car' must be a number from 1 to 3"),
        (annotations(*GOOD[:3], (1, "00003.jpg")), r"annotations\(4\): the image appears twice, first in split train"),
        (
            annotations(*GOOD[:3], (1, "x/00004.jpg")),
            r"annotations\(4\): fname 'x/00004\.jpg' is not the name of a file",
        ),
        (annotations(*GOOD[:3], (1, 4)), r"annotations\(4\): fname 4 is not the name of a file"),
        (annotations(*GOOD[:3]), r"cars_train\.tgz: cars_train/00004\.jpg: no label names this image"),
        (
            annotations(*GOOD, (1, "00005.jpg")),
            r"1 of the 5 images that the labels name are missing, the first is cars_train/00005",
        ),
        (structs("annotations", ["fname"], [("00001.jpg",)]), r"annotations has no field 'class'"),
        (mat(other=1), r"cars_train_annos\.mat: no variable 'annotations' in it"),
        (b"no MATLAB", r"cars_train_annos\.mat: not a readable \.mat file"),
        (None, r"car_devkit\.tgz: no file devkit/cars_train_annos\.mat in it"),
    ],
)
def test_train_labels_that_do_not_fit(tmp_path, content, line):
    refused(tmp_path, line, "devkit", TRAIN_LABELS, content)


@pytest.mark.parametrize(
    "content, line",
    [
        (
            mat(class_names=np.array([["a", "a/b", "a-b"]], object)),
            r"classes 'a/b' and 'a-b' have the same folder, a-b",
        ),
        (
            mat(class_names=np.array([["a", ".b"]], object)),
            r"cars_meta\.mat: class '\.b' cannot be the name of a folder",
        ),
        (mat(class_names=np.array([["a", 2.0]], object)), r"cars_meta\.mat: class_names: 2\.0 is not a name"),
        (None, r"car_devkit\.tgz: no file devkit/cars_meta\.mat in it"),
    ],
)
def test_names_that_do_not_fit(tmp_path, content, line):
    refused(tmp_path, line, "devkit", "devkit/cars_meta.mat", content)


def test_test_labels_without_classes(tmp_path):
    content = cars()["devkit"].members["devkit/cars_test_annos.mat"]
    line = r"cars_test_annos_withlabels\.mat: annotations has no field 'class'"
    refused(tmp_path, line, "test_labels", "", content)


def test_test_labels_are_missing(tmp_path):
    archives = write(cars(), tmp_path)
    archives["test_labels"].unlink()
    with pytest.raises(ScfsError, match=r"cars_test_annos_withlabels\.mat: cannot be read: No such file"):
        list(official.parse(archives)[1])
