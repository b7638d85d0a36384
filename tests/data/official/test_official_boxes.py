import json
from functools import partial

import pytest
from archive_packing import write
from archive_writers import VOC_NAMES, coco, coco_instances, voc
from torchvision.datasets import CocoDetection, VOCDetection

from scfs.data.archives.extraction import extract
from scfs.data.official.parsers import coco as official_coco
from scfs.data.official.parsers import voc as official_voc
from scfs.errors import ScfsError


def extracted_to(folder, official, archives):
    """Write the files and give their paths below the folder."""
    files = partial(official.extracted, archives)
    extract(files, folder)
    return [path for path, _ in files()]


def test_coco_files_are_what_torchvision_reads(tmp_path):
    archives = coco()
    found = extracted_to(tmp_path / "coco", official_coco, write(archives, tmp_path / "archives"))
    assert found == [
        "annotations/instances_train2017.json",
        "annotations/instances_val2017.json",
        "train2017/000000000009.jpg",
        "train2017/000000000025.jpg",
        "train2017/000000581921.jpg",
        "val2017/000000000139.jpg",
        "val2017/000000000285.jpg",
    ]
    for split, number in (("train", 3), ("val", 2)):
        annotations = tmp_path / "coco" / "annotations" / f"instances_{split}2017.json"
        assert annotations.read_bytes() == coco_instances(split)
        theirs = CocoDetection(str(tmp_path / "coco" / f"{split}2017"), str(annotations))
        assert [len(objects) for _, objects in theirs] == [2] * number
        for image in json.loads(annotations.read_text())["images"]:
            content = (tmp_path / "coco" / f"{split}2017" / image["file_name"]).read_bytes()
            assert content == archives[split].members[f"{split}2017/{image['file_name']}"]


@pytest.mark.parametrize(
    "role, name, content, line",
    [
        (
            "annotations",
            "annotations/instances_val2017.json",
            None,
            r"no file annotations/instances_val2017\.json in it",
        ),
        (
            "val",
            "test2017/000000000009.jpg",
            b"x",
            r"val2017\.zip: test2017/000000000009\.jpg: not an image of val2017",
        ),
        (
            "train",
            "train2017/9.jpg",
            b"x",
            r"train2017/9\.jpg: not an image of train2017, such as train2017/000000000009",
        ),
    ],
)
def test_coco_archives_that_do_not_fit(tmp_path, role, name, content, line):
    archives = coco()
    if content is None:
        del archives[role].members[name]
    else:
        archives[role].members[name] = content
    with pytest.raises(ScfsError, match=line):
        list(official_coco.extracted(write(archives, tmp_path)))


def test_coco_archive_without_images(tmp_path):
    archives = coco()
    archives["val"].members.clear()
    with pytest.raises(ScfsError, match=r"val2017\.zip: no images in it"):
        list(official_coco.extracted(write(archives, tmp_path)))


def test_voc_files_are_what_torchvision_reads(tmp_path):
    archives = voc()
    found = extracted_to(tmp_path / "voc", official_voc, write(archives, tmp_path / "archives"))
    every = {name: content for archive in archives.values() for name, content in archive.members.items()}
    left_out = [name for name in every if name not in found]
    assert {name.split("/", 2)[2].rpartition("/")[0] for name in left_out} == {
        "ImageSets/Layout", "ImageSets/Segmentation", "SegmentationClass", "SegmentationObject",
    }  # fmt: skip
    for name in found:
        assert (tmp_path / "voc" / name).read_bytes() == every[name]
    for year, split in (("2007", "trainval"), ("2007", "test"), ("2012", "trainval")):
        theirs = VOCDetection(tmp_path / "voc", year, split)
        names = [target["annotation"]["filename"] for _, target in theirs]
        assert names == [f"{name}.jpg" for name in VOC_NAMES[f"{split}{year}"]]
    assert "VOCdevkit/VOC2012/JPEGImages/2007_000032.jpg" in found


DEVKIT = "VOCdevkit/VOC2007"


def test_a_list_that_two_voc_archives_have_is_taken_from_the_first(tmp_path):
    archives = voc()
    name = f"{DEVKIT}/ImageSets/Main/trainval.txt"
    archives["test2007"].members[name] = b"000001\n"
    paths = write(archives, tmp_path)
    assert [member.archive for path, member in official_voc.extracted(paths) if path == name] == [paths["trainval2007"]]


@pytest.mark.parametrize(
    "role, name, content, line",
    [
        (
            "test2007",
            f"{DEVKIT}/ImageSets/Main/test.txt",
            None,
            rf"VOCtest_06-Nov-2007\.tar: no file {DEVKIT}/ImageSets/Main/test",
        ),
        (
            "test2007",
            f"{DEVKIT}/ImageSets/Main/test.txt",
            b"000001  1\n",
            r"2 of the 2 images and annotations that .*/test\.txt names are missing, the first is .*/000001 1\.xml",
        ),
        (
            "trainval2007",
            f"{DEVKIT}/JPEGImages/000007.jpg",
            None,
            rf"trainval\.txt names are missing, the first is {DEVKIT}/JPEG",
        ),
        (
            "trainval2007",
            f"{DEVKIT}/Annotations/000007.xml",
            None,
            rf"1 of the 4 images and annotations .* the first is {DEVKIT}/Annotations/000007\.xml",
        ),
        (
            "test2007",
            f"{DEVKIT}/JPEGImages/000005.jpg",
            b"x",
            rf"VOCtest.*: {DEVKIT}/JPEGImages/000005\.jpg: an archive before has",
        ),
    ],
)
def test_voc_archives_that_do_not_fit(tmp_path, role, name, content, line):
    archives = voc()
    if content is None:
        del archives[role].members[name]
    else:
        archives[role].members[name] = content
    with pytest.raises(ScfsError, match=line):
        list(official_voc.extracted(write(archives, tmp_path)))
