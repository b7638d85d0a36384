import hashlib
import io
import pickle

import numpy as np
import pytest
from archive_packing import taken, write
from archive_writers import CIFAR10_NAMES, cifar10, cifar100
from PIL import Image
from torchvision.datasets import CIFAR10, CIFAR100

from scfs.data.official.parsers import cifar
from scfs.errors import ScfsError

CASES = {"cifar10": (cifar10, cifar.CIFAR10, CIFAR10, 1), "cifar100": (cifar100, cifar.CIFAR100, CIFAR100, 2)}


def pickled(folder, archives, label_bytes, reader):
    """The same rows as the pickles that torchvision reads, beside the sums that it asks for."""
    files = {}
    for name, content in archives["binary"].members.items():
        if name.endswith(".bin"):
            rows = np.frombuffer(content, np.uint8).reshape(-1, label_bytes + 3072)
            key = "labels" if label_bytes == 1 else "fine_labels"
            entry = {"data": rows[:, label_bytes:], key: rows[:, label_bytes - 1].tolist()}
            files[name.rpartition("/")[2].removesuffix(".bin")] = pickle.dumps(entry)
    names = next(
        content
        for name, content in archives["binary"].members.items()
        if name.endswith((".meta.txt", "fine_label_names.txt"))
    )
    files[reader.meta["filename"]] = pickle.dumps({reader.meta["key"]: names.decode().split()})
    (folder / reader.base_folder).mkdir(parents=True)
    for name, content in files.items():
        (folder / reader.base_folder / name).write_bytes(content)
    sums = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    lists = {part: [[name, sums[name]] for name, _ in getattr(reader, part)] for part in ("train_list", "test_list")}
    return type("Tiny", (reader,), {**lists, "meta": {**reader.meta, "md5": sums[reader.meta["filename"]]}})


@pytest.mark.parametrize("case", CASES)
def test_records_are_what_torchvision_reads_from_the_pickles(tmp_path, case):
    archives, official, reader, label_bytes = CASES[case]
    paths = write(archives(), tmp_path)
    theirs = pickled(tmp_path / "pickles", archives(), label_bytes, reader)
    found = taken(official.parse(paths)[1])
    for split in ("train", "test"):
        wanted = theirs(tmp_path / "pickles", train=split == "train")
        assert official.parse(paths)[0] == tuple(wanted.classes)
        by_index = {int(path[-9:-4]): (path, label, content) for part, path, label, content in found if part == split}
        assert len(by_index) == len(wanted)
        for index, (image, label) in enumerate(wanted):
            path, ours, content = by_index[index]
            assert (path, ours) == (f"{wanted.classes[label]}/{index:05d}.png", label)
            with Image.open(io.BytesIO(content)) as decoded:
                assert (decoded.format, decoded.mode) == ("PNG", "RGB")
                np.testing.assert_array_equal(np.asarray(decoded), np.asarray(image))
    assert len(found) == sum(len(theirs(tmp_path / "pickles", train=train)) for train in (True, False))


def test_order_and_numbers_by_hand(tmp_path):
    paths = write(cifar10(), tmp_path)
    assert cifar.CIFAR10.parse(paths)[0] == CIFAR10_NAMES
    assert [row[:3] for row in taken(cifar.CIFAR10.parse(paths)[1])] == [
        ("train", "automobile/00000.png", 1),
        ("train", "airplane/00001.png", 0),
        ("train", "dog/00004.png", 5),
        ("train", "bird/00005.png", 2),
        ("train", "horse/00006.png", 7),
        ("train", "cat/00007.png", 3),
        ("test", "cat/00000.png", 3),
        ("test", "ship/00001.png", 8),
        ("test", "ship/00002.png", 8),
        ("train", "truck/00008.png", 9),
        ("train", "deer/00009.png", 4),
        ("train", "cat/00002.png", 3),
        ("train", "automobile/00003.png", 1),
    ]


def test_planes_of_a_row_are_red_green_and_blue(tmp_path):
    archives = cifar100()
    row = bytes([0, 2]) + bytes([10]) * 1024 + bytes(range(32)) * 32 + b"".join(bytes([y]) * 32 for y in range(32))
    archives["binary"].members["cifar-100-binary/test.bin"] = row
    ((_, path, label, content),) = [
        row for row in taken(cifar.CIFAR100.parse(write(archives, tmp_path))[1]) if row[0] == "test"
    ]
    assert (path, label) == ("baby/00000.png", 2)
    pixels = np.asarray(Image.open(io.BytesIO(content)))
    assert (pixels[..., 0] == 10).all()
    assert (pixels[..., 1] == np.arange(32)).all()
    assert (pixels[..., 2] == np.arange(32)[:, None]).all()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    "cut, line",
    [
        (lambda rows: rows[:-1], r"cut off: {} bytes, not in rows of {}"),
        (lambda rows: b"", r"cut off: 0 bytes, not in rows of"),
    ],
)
def test_rows_that_are_cut_off(tmp_path, case, cut, line):
    archives, official, _, label_bytes = CASES[case]
    archives = archives()
    members = archives["binary"].members
    name = next(name for name in members if name.endswith("test_batch.bin") or name.endswith("test.bin"))
    members[name] = cut(members[name])
    with pytest.raises(ScfsError, match=f"{name}: " + line.format(len(members[name]), label_bytes + 3072)):
        list(official.parse(write(archives, tmp_path))[1])


@pytest.mark.parametrize("case", CASES)
def test_missing_files(tmp_path, case):
    archives, official, *_ = CASES[case]
    for name in archives()["binary"].members:
        if not name.endswith(("readme.html", "coarse_label_names.txt")):
            changed = archives()
            del changed["binary"].members[name]
            with pytest.raises(ScfsError, match=rf"tar\.gz: no file {name} in it: the layout is not the official"):
                list(official.parse(write(changed, tmp_path))[1])


def test_label_that_is_not_a_classes(tmp_path):
    archives = cifar10()
    archives["binary"].members["cifar-10-batches-bin/data_batch_4.bin"] = bytes(3073) + b"\x0a" + bytes(3072)
    with pytest.raises(ScfsError, match=r"data_batch_4\.bin: row 1: label 10: 10 classes"):
        list(cifar.CIFAR10.parse(write(archives, tmp_path))[1])


def test_names_that_are_not_different(tmp_path):
    archives = cifar100()
    archives["binary"].members["cifar-100-binary/fine_label_names.txt"] = b"apple\nbaby\napple\nlamp\n"
    with pytest.raises(ScfsError, match=r"fine_label_names\.txt: classes 'apple' and 'apple' have the same folder"):
        cifar.CIFAR100.parse(write(archives, tmp_path))
