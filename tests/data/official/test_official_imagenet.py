import hashlib

import pytest
from archive_packing import structs, taken, write
from archive_writers import DEVKIT, SYNSET_FIELDS, SYNSETS, imagenet
from torchvision.datasets import imagenet as published

from scfs.data.official.parsers import imagenet as official
from scfs.errors import ScfsError

META = f"{DEVKIT}/data/meta.mat"
TRUTH = f"{DEVKIT}/data/ILSVRC2012_validation_ground_truth.txt"


def test_records_are_what_torchvision_makes_of_the_archives(tmp_path, monkeypatch):
    archives = write(imagenet(), tmp_path)
    for role, path in archives.items():
        monkeypatch.setitem(published.ARCHIVE_META, role, (path.name, hashlib.md5(path.read_bytes()).hexdigest()))
    assert published.ARCHIVE_META["train"][0] == "ILSVRC2012_img_train.tar"
    found = taken(official.parse(archives)[1])
    for split, number in (("train", 7), ("val", 4)):
        theirs = published.ImageNet(tmp_path, split)
        assert official.parse(archives)[0] == tuple(theirs.wnids)
        wanted = {path.removeprefix(f"{tmp_path}/{split}/"): label for path, label in theirs.samples}
        assert {path: label for part, path, label, _ in found if part == split} == wanted
        assert len(wanted) == number
    for split, path, _, content in found:
        assert content == (tmp_path / split / path).read_bytes()


def test_records_by_hand(tmp_path):
    archives = write(imagenet(), tmp_path)
    assert official.parse(archives)[0] == ("n02100735", "n02105855", "n02119789")
    assert [row[:3] for row in taken(official.parse(archives)[1])] == [
        ("train", "n02119789/n02119789_10060.JPEG", 2),
        ("train", "n02119789/n02119789_7.JPEG", 2),
        ("train", "n02119789/n02119789_4.JPEG", 2),
        ("train", "n02105855/n02105855_2933.JPEG", 1),
        ("train", "n02105855/n02105855_11.JPEG", 1),
        ("train", "n02100735/n02100735_8211.JPEG", 0),
        ("train", "n02100735/n02100735_36.JPEG", 0),
        ("val", "n02119789/ILSVRC2012_val_00000002.JPEG", 2),
        ("val", "n02105855/ILSVRC2012_val_00000001.JPEG", 1),
        ("val", "n02100735/ILSVRC2012_val_00000004.JPEG", 0),
        ("val", "n02119789/ILSVRC2012_val_00000003.JPEG", 2),
    ]


def test_a_list_of_classes_takes_a_subset(tmp_path):
    archives = write(imagenet(), tmp_path)
    names = ["n02119789", "n02100735"]
    assert official.parse(archives, names)[0] == ("n02100735", "n02119789")
    assert [row[1:3] for row in taken(official.parse(archives, names)[1])] == [
        ("n02119789/n02119789_10060.JPEG", 1),
        ("n02119789/n02119789_7.JPEG", 1),
        ("n02119789/n02119789_4.JPEG", 1),
        ("n02100735/n02100735_8211.JPEG", 0),
        ("n02100735/n02100735_36.JPEG", 0),
        ("n02119789/ILSVRC2012_val_00000002.JPEG", 1),
        ("n02100735/ILSVRC2012_val_00000004.JPEG", 0),
        ("n02119789/ILSVRC2012_val_00000003.JPEG", 1),
    ]


@pytest.mark.parametrize(
    "names, line",
    [
        (["n02119789", "n00000000"], r"class list: 'n00000000' is not among the 3 classes of .*meta\.mat"),
        (["n02083346"], r"class list: 'n02083346' is not among the 3 classes"),
        (["n02119789", "n02119789"], r"class list: 2 names, 1 different"),
        ([], r"class list: 0 names, 0 different: at least one"),
    ],
)
def test_a_list_that_is_not_of_classes(tmp_path, names, line):
    archives = write(imagenet(), tmp_path)
    with pytest.raises(ScfsError, match=line):
        official.parse(archives, names)


def refused(tmp_path, line, change):
    archives = imagenet()
    change(archives)
    with pytest.raises(ScfsError, match=line) as error:
        taken(official.parse(write(archives, tmp_path))[1])
    assert "\n" not in str(error.value)


def changed(role, name, content):
    return lambda archives: archives[role].members.update({name: content})


def removed(role, name):
    return lambda archives: archives[role].members.pop(name)


def synsets(*rows):
    return structs("synsets", SYNSET_FIELDS, rows)


@pytest.mark.parametrize("name", [META, TRUTH])
def test_missing_label_file(tmp_path, name):
    line = rf"devkit_t12\.tar\.gz: no file {name} in it: the layout is not the official archive's$"
    refused(tmp_path, line, removed("devkit", name))


@pytest.mark.parametrize(
    "content, line",
    [
        (b"3\n1\n2\n1001\n", r"line 4 = '1001': '1001' must be a number from 1 to 3"),
        (b"3\n0\n2\n1\n", r"line 2 = '0': '0' must be a number from 1 to 3"),
        (b"3\nfox\n2\n1\n", r"line 2 = 'fox': 'fox' must be a number"),
        (b"3\n1\n2\n", r"img_val\.tar: ILSVRC2012_val_00000004\.JPEG: not among the 3 validation images with a label"),
        (b"3\n1\n2\n1\n2\n", r"1 of the 5 labelled images are missing, the first is ILSVRC2012_val_00000005\.JPEG"),
        (b"", r"ground_truth\.txt: is empty"),
        (b"\xff\n", r"ground_truth\.txt: not UTF-8 text"),
    ],
)
def test_ground_truth_that_does_not_fit(tmp_path, content, line):
    refused(tmp_path, line, changed("devkit", TRUTH, content))


@pytest.mark.parametrize(
    "content, line",
    [
        (b"MATLAB 5.0", r"meta\.mat: not a readable \.mat file"),
        (structs("other", SYNSET_FIELDS, SYNSETS), r"meta\.mat: no variable 'synsets' in it"),
        (structs("synsets", ["WNID"], [("n02119789",)]), r"synsets has no field 'ILSVRC2012_ID'"),
        (synsets(*SYNSETS, SYNSETS[0]), r"synsets\(6\): class 1, n02119789: appears twice"),
        (synsets(("x", *SYNSETS[0][1:])), r"synsets\(1\): 'x' must be a number from 1 to"),
        (synsets((1.5, *SYNSETS[0][1:])), r"synsets\(1\): 1\.5 must be a number from 1 to"),
        (synsets((1, "fox", *SYNSETS[0][2:])), r"synsets\(1\): 'fox' is not a WordNet id"),
        (synsets(SYNSETS[3]), r"meta\.mat: no classes in it"),
        (synsets(*SYNSETS[:2]), r"line 1 = '3': '3' must be a number from 1 to 2"),
        (synsets((7, *SYNSETS[0][1:]), *SYNSETS[1:]), r"line 2 = '1': 1 is not a class of the development kit"),
    ],
)
def test_meta_file_that_is_not_as_described(tmp_path, content, line):
    refused(tmp_path, line, changed("devkit", META, content))


def test_train_image_of_no_class(tmp_path):
    inner = {"n01440764_1.JPEG": b"x"}
    line = r"img_train\.tar: n01440764/n01440764_1\.JPEG: not an image of one of the 3 classes"
    refused(tmp_path, line, changed("train", "n01440764.tar", inner))


@pytest.mark.parametrize("name", ["n02119789_1.JPEG", "n02100735_36.txt", "n02100735_36"])
def test_train_image_with_another_name(tmp_path, name):
    line = rf"n02100735/{name}: not an image of one of the 3 classes"
    refused(tmp_path, line, changed("train", "n02100735.tar", {name: b"x"}))


def test_a_class_without_train_images(tmp_path):
    line = r"img_train\.tar: no images of 1 of the 3 classes, the first is n02105855$"
    refused(tmp_path, line, removed("train", "n02105855.tar"))


def test_another_file_among_the_validation_images(tmp_path):
    line = r"img_val\.tar: val/ILSVRC2012_val_00000001\.JPEG: not among the 4 validation images with a label"
    refused(tmp_path, line, changed("val", "val/ILSVRC2012_val_00000001.JPEG", b"x"))


def test_a_validation_image_is_missing(tmp_path):
    line = r"1 of the 4 labelled images are missing, the first is ILSVRC2012_val_00000002\.JPEG$"
    refused(tmp_path, line, removed("val", "ILSVRC2012_val_00000002.JPEG"))
