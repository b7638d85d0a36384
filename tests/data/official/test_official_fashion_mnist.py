import gzip
import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from archive_packing import taken, write
from archive_writers import fashion_mnist, idx
from PIL import Image
from torchvision.datasets import FashionMNIST

from scfs.data.official.parsers import fashion_mnist as official
from scfs.errors import ScfsError

ORIGINALS = Path("/usr/share/datasets/fashion-mnist")


def test_records_are_what_torchvision_reads(tmp_path):
    archives = write(fashion_mnist(), tmp_path)
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for path in archives.values():
        (raw / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    found = taken(official.parse(archives)[1])
    for split in ("train", "test"):
        theirs = FashionMNIST(tmp_path, train=split == "train")
        assert official.parse(archives)[0] == tuple(theirs.classes)
        rows = [row[1:] for row in found if row[0] == split]
        assert [label for _, label, _ in rows] == theirs.targets.tolist()
        for (_, _, content), pixels in zip(rows, theirs.data, strict=True):
            with Image.open(io.BytesIO(content)) as image:
                assert (image.format, image.mode) == ("PNG", "L")
                np.testing.assert_array_equal(np.asarray(image), pixels.numpy())
    assert [row[:2] for row in found] == [
        ("train", "Ankle boot/00000.png"),
        ("train", "T-shirt-top/00001.png"),
        ("train", "T-shirt-top/00002.png"),
        ("train", "Dress/00003.png"),
        ("train", "Bag/00004.png"),
        ("test", "Ankle boot/00000.png"),
        ("test", "Pullover/00001.png"),
        ("test", "Trouser/00002.png"),
    ]


def images(number):
    return np.zeros((number, 28, 28), np.uint8)


@pytest.mark.parametrize(
    "role, content, line",
    [
        ("train_images", idx(images(5))[:-1], r"train-images-idx3-ubyte\.gz: cut off: 3919 bytes of 3920 after"),
        ("train_images", idx(images(5)) + b"x", r"train-images-idx3-ubyte\.gz: cut off: 3921 bytes of 3920 after"),
        ("test_labels", idx(np.zeros(3, np.uint8))[:7], r"labels-idx1-ubyte\.gz: not an idx file of bytes with 1 dim"),
        ("test_images", idx(np.zeros(3, np.uint8)), r"t10k-images-idx3-ubyte\.gz: not an idx file of bytes with 3 dim"),
        ("train_labels", idx(images(5)), r"train-labels-idx1-ubyte\.gz: not an idx file of bytes with 1 dimensions"),
        ("train_labels", idx(np.zeros(4, np.uint8)), r"train-labels-idx1-ubyte\.gz: 4 labels of 5 images"),
        ("test_labels", idx(np.array([1, 10, 0], np.uint8)), r"t10k-labels.*: row 1: label 10: 10 classes"),
    ],
)
def test_files_that_do_not_fit(tmp_path, role, content, line):
    archives = fashion_mnist()
    (name,) = archives[role].members
    archives[role].members[name] = content
    with pytest.raises(ScfsError, match=line):
        list(official.parse(write(archives, tmp_path))[1])


@pytest.mark.skipif(not ORIGINALS.is_dir(), reason="needs the originals: apt-get install dataset-fashion-mnist")
def test_the_originals():
    prefixes = {"train": "train", "test": "t10k"}
    files = {"images": "images-idx3-ubyte.gz", "labels": "labels-idx1-ubyte.gz"}
    archives = {
        f"{split}_{kind}": ORIGINALS / f"{prefix}-{file}"
        for split, prefix in prefixes.items()
        for kind, file in files.items()
    }
    first = {"train": [9, 0, 0, 3, 0, 2, 7, 2, 5, 5], "test": [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]}
    labels = {"train": [], "test": []}
    for record in official.parse(archives)[1]:
        labels[record.split].append(record.label)
    for split, per_class in (("train", 6000), ("test", 1000)):
        assert Counter(labels[split]) == dict.fromkeys(range(10), per_class)
        assert labels[split][:10] == first[split]
