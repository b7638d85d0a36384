import pytest
from archive_packing import taken, write
from archive_writers import CUB_CLASSES, cub200

from scfs.data.official.parsers import cub200 as official
from scfs.errors import ScfsError


def test_records_by_hand(tmp_path):
    archives = cub200()
    paths = write(archives, tmp_path)
    assert official.parse(paths)[0] == CUB_CLASSES
    found = taken(official.parse(paths)[1])
    assert [row[:3] for row in found] == [
        ("train", "003.Sooty_Albatross/Sooty_Albatross_0040_796375.jpg", 2),
        ("train", "002.Laysan_Albatross/Laysan_Albatross_0003_1033.jpg", 1),
        ("test", "002.Laysan_Albatross/Laysan_Albatross_0002_1027.jpg", 1),
        ("train", "001.Black_footed_Albatross/Black_Footed_Albatross_0009_34.jpg", 0),
        ("test", "001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg", 0),
    ]
    for _, path, _, content in found:
        assert content == archives["images"].members[f"CUB_200_2011/images/{path}"]


@pytest.mark.parametrize("name", ["classes", "images", "image_class_labels", "train_test_split"])
def test_missing_label_file(tmp_path, name):
    archives = cub200()
    del archives["images"].members[f"CUB_200_2011/{name}.txt"]
    with pytest.raises(ScfsError, match=rf"CUB_200_2011\.tgz: no file CUB_200_2011/{name}\.txt in it: the layout"):
        list(official.parse(write(archives, tmp_path))[1])


@pytest.mark.parametrize(
    "name, old, new, line",
    [
        ("image_class_labels", "5 3\n", "5 4\n", r"line 5 = '5 4': '4' must be a number from 1 to 3"),
        ("image_class_labels", "5 3\n", "5 0\n", r"line 5 = '5 0': '0' must be a number from 1 to 3"),
        ("image_class_labels", "5 3\n", "5 2\n", r"images\.txt: line 5 = .*: lies not in the folder of its class, 002"),
        ("image_class_labels", "5 3\n", "", r"image_class_labels\.txt: image id '5' is not in both it and images\.txt"),
        ("image_class_labels", "5 3\n", "5 3\n6 3\n", r"image id '6' is not in both it and images\.txt"),
        ("image_class_labels", "5 3\n", "5 3\n5 3\n", r"image_class_labels\.txt: line 6 = '5 3': '5' appears twice"),
        ("image_class_labels", "5 3\n", "5\n", r"image_class_labels\.txt: line 5 = '5': 2 fields are expected"),
        ("train_test_split", "5 1\n", "", r"train_test_split\.txt: image id '5' is not in both it and images\.txt"),
        ("train_test_split", "5 1\n", "5 2\n", r"line 5 = '5 2': '2' must be a number from 0 to 1"),
        ("images", "0009_34", "0046_18", r"images\.txt: line 2 = .*: the image appears twice"),
        ("images", "0009_34", "0009_35", r"Black_Footed_Albatross_0009_34\.jpg: no label names this image"),
        ("classes", "3 003", "4 003", r"classes\.txt: line 3 = '4 003\.Sooty_Albatross': class id '4': 3 is expected"),
        (
            "classes",
            "3 003.Sooty_Albatross",
            "3 001.Black_footed_Albatross",
            r"have the same folder, 001\.Black_footed",
        ),
        ("classes", "003.Sooty_Albatross", "003.Sooty/Albatross", r"classes\.txt: .* cannot hold a slash"),
    ],
)
def test_labels_that_do_not_fit(tmp_path, name, old, new, line):
    archives = cub200()
    members = archives["images"].members
    content = members[f"CUB_200_2011/{name}.txt"].decode()
    assert old in content
    members[f"CUB_200_2011/{name}.txt"] = content.replace(old, new).encode()
    with pytest.raises(ScfsError, match=line) as error:
        list(official.parse(write(archives, tmp_path))[1])
    assert "\n" not in str(error.value)


def test_image_that_no_label_names(tmp_path):
    archives = cub200()
    archives["images"].members["CUB_200_2011/images/001.Black_footed_Albatross/new.jpg"] = b"x"
    with pytest.raises(ScfsError, match=r"tgz: CUB_200_2011/images/001.*/new\.jpg: no label names this image"):
        list(official.parse(write(archives, tmp_path))[1])


def test_image_that_is_missing(tmp_path):
    archives = cub200()
    name = "002.Laysan_Albatross/Laysan_Albatross_0003_1033.jpg"
    del archives["images"].members[f"CUB_200_2011/images/{name}"]
    line = rf"tgz: 1 of the 5 images that the labels name are missing, the first is CUB_200_2011/images/{name}$"
    with pytest.raises(ScfsError, match=line):
        list(official.parse(write(archives, tmp_path))[1])
