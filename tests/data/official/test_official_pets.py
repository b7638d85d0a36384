import shutil

import pytest
from archive_packing import taken, text, write
from archive_writers import PET_LISTS, pets
from torchvision.datasets import OxfordIIITPet

from scfs.data.official.parsers import pets as official
from scfs.errors import ScfsError


def test_records_are_what_torchvision_reads(tmp_path):
    archives = write(pets(), tmp_path)
    root = tmp_path / "oxford-iiit-pet"
    for path in archives.values():
        shutil.unpack_archive(path, root, "gztar")
    found = taken(official.parse(archives)[1])
    for split, theirs, number in (("train", "trainval", 4), ("test", "test", 3)):
        theirs = OxfordIIITPet(tmp_path, theirs)
        names = [" ".join(part.title() for part in name.split("_")) for name in official.parse(archives)[0]]
        assert names == theirs.classes
        wanted = {path.name: label for path, label in zip(theirs._images, theirs._labels)}
        assert {path.rpartition("/")[2]: label for part, path, label, _ in found if part == split} == wanted
        assert len(wanted) == number
    for _, path, _, content in found:
        assert content == (root / "images" / path.rpartition("/")[2]).read_bytes()


def test_records_by_hand(tmp_path):
    archives = write(pets(), tmp_path)
    assert official.parse(archives)[0] == ("Abyssinian", "american_bulldog", "British_Shorthair")
    assert [row[:3] for row in taken(official.parse(archives)[1])] == [
        ("train", "Abyssinian/Abyssinian_100.jpg", 0),
        ("test", "Abyssinian/Abyssinian_201.jpg", 0),
        ("train", "Abyssinian/Abyssinian_34.jpg", 0),
        ("train", "British_Shorthair/British_Shorthair_21.jpg", 2),
        ("test", "British_Shorthair/British_Shorthair_5.jpg", 2),
        ("train", "american_bulldog/american_bulldog_100.jpg", 1),
        ("test", "american_bulldog/american_bulldog_203.jpg", 1),
    ]


@pytest.mark.parametrize(
    "rows, line",
    [
        (
            ("Abyssinian_201 38 1 1",),
            r"test\.txt: line 1 = 'Abyssinian_201 38 1 1': '38' must be a number from 1 to 37",
        ),
        (("Abyssinian_201 0 1 1",), r"'0' must be a number from 1 to 37"),
        (("Abyssinian_201 1 1",), r"line 1 = 'Abyssinian_201 1 1': 4 fields are expected"),
        (("Abyssinian_201 2 2 1",), r"line 1 = 'Abyssinian_201 2 2 1': class 2 is 'american_bulldog' in a line before"),
        (("Bengal_5 5 1 3",), r"trainval\.txt: no image of class 4, but 4 classes in all"),
        (("Abyssinian_9 4 1 1",), r"classes 'Abyssinian' and 'Abyssinian' have the same folder, Abyssinian"),
        (("12 4 1 1",), r"class '' cannot be the name of a folder"),
        (("Abyssinian_34 1 1 1",), r"test\.txt: line 1 = 'Abyssinian_34 1 1 1': the image appears twice"),
        (("Abyssinian_201 1 1 1",) * 2, r"test\.txt: line 2 = .*: the image appears twice"),
        (
            ("Abyssinian_999 1 1 1",),
            r"images\.tar\.gz: 1 of the 5 images .* missing, the first is images/Abyssinian_999\.jpg",
        ),
        ((), r"test\.txt: is empty"),
    ],
)
def test_lists_that_do_not_fit(tmp_path, rows, line):
    archives = pets()
    archives["annotations"].members["annotations/test.txt"] = text(*rows)
    with pytest.raises(ScfsError, match=line):
        list(official.parse(write(archives, tmp_path))[1])


@pytest.mark.parametrize("name", PET_LISTS)
def test_missing_list(tmp_path, name):
    archives = pets()
    del archives["annotations"].members[f"annotations/{name}.txt"]
    with pytest.raises(ScfsError, match=rf"annotations\.tar\.gz: no file annotations/{name}\.txt in it"):
        official.parse(write(archives, tmp_path))
