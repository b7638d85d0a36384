"""Shards, and reading images within them; the work in threads that fills them; how much room a set takes."""

import io
import os
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from scfs.config.data import Official
from scfs.data import image_set
from scfs.data.image_set import Place, read_place
from scfs.data.official.disk_space import bytes_needed
from scfs.data.official.ingest import SAMPLED, sampled
from scfs.data.official.shards import ShardWriter
from scfs.data.sources.image_probe import OFFICIAL_FORMATS, format_mismatch, probe_image
from scfs.errors import ScfsError
from scfs.io import ordered_map as ahead_module
from scfs.io.ordered_map import ordered_map

NAMES = ["a.png", "class/b.JPEG", f"{'long' * 30}/{'name' * 30}.jpg", "größe/ü.png", "empty.png"]


@pytest.fixture
def shard(tmp_path):
    """Contents by name, and their places."""
    contents = {name: os.urandom(512 * number) + name.encode() * number for number, name in enumerate(NAMES, start=1)}
    contents["empty.png"] = b""
    writer = ShardWriter(tmp_path / "shards" / "train-00000.tar", tmp_path / "part")
    places = {name: writer.add(name, content) for name, content in contents.items()}
    assert not (tmp_path / "shards").exists()
    writer.close()
    assert not (tmp_path / "part").exists()
    return tmp_path / "shards", contents, places


def test_any_tar_reads_a_shard(shard):
    folder, contents, places = shard
    with tarfile.open(folder / "train-00000.tar", "r:") as file:
        assert {m.name: (m.offset_data, m.size) for m in file} == {name: places[name][1:] for name in NAMES}
        assert {name: file.extractfile(name).read() for name in NAMES} == contents
    assert {name: read_place(folder, places[name]) for name in NAMES} == contents


def test_an_unfinished_shard_leaves_nothing(tmp_path):
    writer = ShardWriter(tmp_path / "x.tar", tmp_path / "part")
    writer.add("a", b"1")
    writer.discard()
    assert not list(tmp_path.iterdir())


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_threads_read_more_shards_than_may_be_open(tmp_path, monkeypatch):
    monkeypatch.setattr(image_set, "_open_file", image_set.lru_cache(maxsize=2)(image_set._OpenFile))
    for number in range(5):
        (tmp_path / f"{number}").write_bytes(bytes([number]) * 1000)
    before = open_files()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: read_place(tmp_path, Place(f"{i % 5}", i % 990, 10)), range(2000)))
    assert found == [bytes([i % 5]) * 10 for i in range(2000)]
    assert open_files() <= before + 2


def test_what_cannot_be_read_is_one_line(tmp_path):
    with pytest.raises(ScfsError, match=r"none\.tar: cannot be read: No such file"):
        read_place(tmp_path, Place("none.tar", 0, 1))
    (tmp_path / "short.tar").write_bytes(bytes(100))
    assert read_place(tmp_path, Place("short.tar", 90, 10)) == bytes(10)
    with pytest.raises(ScfsError, match=r"short\.tar: cut off: it has no 11 bytes at 90"):
        read_place(tmp_path, Place("short.tar", 90, 11))


# --- ordered_map ---


def test_results_come_in_order():
    def work(number):
        time.sleep(0.001 * (number % 3))
        return -number

    assert list(ordered_map(range(200), work, lambda item: 1)) == [(number, -number) for number in range(200)]


@pytest.mark.parametrize("most_bytes, most_items, bound", [(100, 1000, 11), (10**9, 7, 8), (5, 1000, 1)])
def test_no_more_is_held_than_the_bound(monkeypatch, most_bytes, most_items, bound):
    monkeypatch.setattr(ahead_module, "MOST_BYTES", most_bytes)
    monkeypatch.setattr(ahead_module, "MOST_ITEMS", most_items)
    taken = []

    def items():
        for number in range(100):
            taken.append(number)
            yield number

    for used, (item, _) in enumerate(ordered_map(items(), abs, lambda item: 10)):
        assert item == used and len(taken) - used <= bound
    assert len(taken) == 100


def test_errors_come_behind_what_was_before_them():
    def items():
        yield from range(5)
        raise ScfsError("the archive ends")

    found = []
    with pytest.raises(ScfsError, match="the archive ends"):
        found.extend(item for item, _ in ordered_map(items(), abs, lambda item: 0))
    seen = []
    with pytest.raises(ScfsError, match="the archive ends"):
        for item, _ in ordered_map(items(), abs, lambda item: 0):
            seen.append(item)
    assert seen == [0, 1, 2, 3, 4]

    def work(number):
        if number == 3:
            raise OSError("the disk is full")

    seen.clear()
    with pytest.raises(OSError, match="the disk is full"):
        for item, _ in ordered_map(range(100), work, lambda item: 0):
            seen.append(item)
    assert seen == [0, 1, 2]
    assert threading.active_count() < 20


# --- probing ---


def encoded(form, mode="RGB", size=(20, 10)):
    stream = io.BytesIO()
    Image.effect_noise(size, 50).convert(mode).save(stream, form)
    return stream.getvalue()


@pytest.mark.parametrize(
    "path, form, mode, odd",
    [
        ("n1/a.JPEG", "JPEG", "RGB", None),
        ("n1/a.JPEG", "JPEG", "L", None),
        ("n1/a.JPEG", "PNG", "RGB", "PNG in spite of its name"),
        ("n1/a.jpg", "JPEG", "CMYK", "CMYK instead of RGB"),
        ("a.jpg", "GIF", "P", "GIF in spite of its name"),
        ("a.png", "PNG", "LA", None),
        ("a.bmp", "BMP", "RGB", None),
    ],
)
def test_what_is_odd(path, form, mode, odd):
    found = probe_image(encoded(form, mode), OFFICIAL_FORMATS)
    assert (found.problem, found.width, found.height) == (None, 20, 10)
    assert format_mismatch(path, found.kind) == odd


def test_a_header_alone_tells_the_size():
    cut = encoded("JPEG", size=(300, 200))[:-200]
    assert probe_image(cut).problem is not None
    assert probe_image(cut, whole=False)[:2] == (300, 200)
    assert probe_image(encoded("GIF", "P")).problem == "not a JPEG, PNG, WEBP, TIFF or BMP"


def test_the_sample_is_one_in_so_many():
    paths = [f"n{number % 1000:08d}/n{number:08d}.JPEG" for number in range(64_000)]
    chosen = [path for path in paths if sampled(path)]
    assert chosen == [path for path in paths if sampled(path)]
    assert abs(len(chosen) - 64_000 / SAMPLED) < 120  # four standard deviations


# --- room ---


def test_room_by_hand():
    imagenet = 147_897_477_120 + 6_744_924_160
    images_of_both = 1_281_167 + 50_000

    def needed(entry, layout, **more):
        return bytes_needed(Official(source="official", entry=entry, layout=layout), **more)

    assert needed("imagenet", "archive") == images_of_both * 200
    assert needed("imagenet", "shards") == imagenet + images_of_both * 1224
    assert needed("imagenet", "folder") == imagenet + images_of_both * 4296
    part = round(0.1 * (imagenet + 1000))  # and the list of its classes
    assert needed("imagenet100", "shards") == part + (126_689 + 5_000) * 1224
    assert needed("cifar10", "shards") == 170_052_171 + 60_000 * 1224
