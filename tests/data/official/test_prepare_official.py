"""Official archives through `prepare`, in every layout: what comes out is what the parsers say, and the tools read."""

import hashlib
import json
import os
import shutil
import tarfile

import numpy as np
import pyarrow.parquet as pq
import pytest
from archive_packing import taken
from tiny_official import IMAGENET100, LABELLED_SETS, files, install, make, tiny_catalogue

from scfs.config.base import parse
from scfs.config.data import Official
from scfs.data.archives.verified import require_archives
from scfs.data.decoding import decode
from scfs.data.manifest import COLUMNS, describe, load_split
from scfs.data.official import ingest
from scfs.data.official.parsers import LABELLED
from scfs.data.opening import open_split
from scfs.data.prepare import prepare
from scfs.errors import ScfsError
from scfs.views.workers import prefetch, read_image


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archives")
    return folder, tiny_catalogue(folder)


@pytest.fixture
def archives(tiny, tmp_path, monkeypatch):
    """Tiny archives below the working folder, and their catalogue."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "sync", lambda: None)  # which waits for all that others write
    shutil.copytree(tiny[0], tmp_path / "datasets/archives")
    install(tiny[1], monkeypatch)
    monkeypatch.setattr(ingest, "MOST_IMAGES", 2)  # so that there are several batches
    return tmp_path / "datasets/archives"


def expected(entry, archives):
    """(path, label, bytes) by split, sorted: from the parser alone."""
    paths = require_archives(entry, archives)
    records = LABELLED[entry](paths, *([IMAGENET100] if entry == "imagenet100" else []))[1]
    found = {}
    for split, path, label, content in sorted(taken(records)):
        found.setdefault(split, []).append((path, label, content))
    return found


def layouts_of(entry):
    return ("folder", "shards", *(["archive"] if entry.startswith("imagenet") else []))


@pytest.mark.parametrize("entry, layout", [(entry, layout) for entry in LABELLED_SETS for layout in layouts_of(entry)])
def test_every_set_in_every_layout(tmp_path, archives, entry, layout):
    manifest = make(tmp_path, entry, layout)
    wanted = expected(entry, archives)
    about = describe(manifest)
    assert set(about["splits"]) == set(wanted)
    for split, images in wanted.items():
        found = open_split(manifest, split)
        assert found.paths == [path for path, _, _ in images]
        assert found.require_labels().tolist() == [label for _, label, _ in images]
        for row, (_, _, content) in enumerate(images):
            assert found.read(row) == content
            assert read_image(found, row).tolist() == decode(content, "").tolist()
        hashes = b"".join(hashlib.sha256(content).digest() for _, _, content in images)
        labels = b"".join(label.to_bytes(8, "little") for _, label, _ in images)
        assert found.digest == hashlib.sha256(hashes + labels).hexdigest()
    if entry == "imagenet100":
        assert found.classes == tuple(sorted(IMAGENET100))
    else:
        assert found.classes == LABELLED[entry](require_archives(entry, archives))[0]
    assert not (manifest.parent / ".part").exists()
    assert (manifest.parent / "images").exists() == (layout == "folder")
    assert (manifest.parent / "shards").exists() == (layout == "shards")


def test_a_folder_of_the_same_images_has_the_same_digest(tmp_path, archives):
    from scfs.data.sources.folders import image_folder

    manifest = make(tmp_path, "cub200")
    for split in ("train", "test"):
        assert image_folder(manifest.parent / "images" / split).paths == open_split(manifest, split).paths
    train = open_split(manifest, "train")
    assert image_folder(manifest.parent / "images/train").digest == train.digest


def test_shards_are_tars(tmp_path, archives):
    manifest = make(tmp_path, "imagenet", "shards")
    rows = load_split(manifest, "train")
    assert sorted(set(rows.files)) == [f"train-{number:05d}.tar" for number in range(4)]
    for shard in set(rows.files):
        with tarfile.open(manifest.parent / "shards" / shard) as file:
            for member in file:
                row = rows.paths.index(member.name)
                assert (shard, member.offset_data, member.size) == rows.place(row)
                assert (member.mtime, member.mode, member.uid, member.gid) == (0, 0o644, 0, 0)
                assert (member.uname, member.gname) == ("", "")
                assert hashlib.sha256(file.extractfile(member).read()).digest() == rows.hashes[row]


def test_images_are_read_where_they_lie(tmp_path, archives):
    manifest = make(tmp_path, "imagenet", "archive")
    train, val = (open_split(manifest, split) for split in ("train", "val"))
    assert train.root.resolve() == archives
    assert set(train.files) == {"imagenet/ILSVRC2012_img_train.tar"}
    assert set(val.files) == {"imagenet/ILSVRC2012_img_val.tar"}
    assert describe(manifest)["splits"]["train"]["root"] == "../../datasets/archives"
    assert sum(len(content) for content in files(manifest.parent).values()) < 40_000


@pytest.mark.parametrize("layout", ["folder", "shards"])
def test_the_same_archives_give_the_same_bytes(tmp_path, archives, layout):
    first = make(tmp_path, "imagenet", layout)
    config = describe(first)["config"]
    prepare("set", parse(Official, config, ""), tmp_path / "data" / "other")
    assert files(tmp_path / "data" / "other") == files(first.parent)


def test_odd_images_are_listed(tmp_path, archives):
    manifest = make(tmp_path, "imagenet")
    odd = {
        "n02100735/n02100735_36.JPEG": "CMYK instead of RGB",
        "n02105855/n02105855_2933.JPEG": "PNG in spite of its name",
    }
    about = describe(manifest)["splits"]
    assert (about["train"]["odd"], about["val"]["odd"]) == (odd, {})
    report = json.loads((manifest.parent / "report.json").read_text())
    assert report["splits"]["train"] == {"images": 7, "repeated": 0, "odd": odd, "unreadable": {}}
    pets = describe(make(tmp_path, "pets", name="pets"))["splits"]
    assert pets["train"]["odd"] == {"Abyssinian/Abyssinian_34.jpg": "GIF in spite of its name"}
    assert pets["test"]["odd"] == {"British_Shorthair/British_Shorthair_5.jpg": "PNG in spite of its name"}


def test_a_class_list_of_ones_own(tmp_path, archives):
    (tmp_path / "list.txt").write_text("n02105855\n")
    sha256 = hashlib.sha256(b"n02105855\n").hexdigest()
    listed = {"file": "list.txt", "sha256": sha256, "url": "https://somewhere"}
    manifest = make(tmp_path, "imagenet", "shards", class_list=listed)
    train = open_split(manifest, "train")
    assert (train.classes, len(train)) == (("n02105855",), 2)
    assert len(open_split(manifest, "val")) == 1
    (tmp_path / "list.txt").unlink()  # a clone that has the manifest does not need it
    shutil.rmtree(manifest.parent / "shards")
    assert decode(open_split(manifest, "train").read(0), "").shape == (20, 24, 3)


@pytest.mark.parametrize("layout", ["folder", "shards", "archive"])
def test_a_second_call_reads_nothing(tmp_path, archives, layout, capsys):
    """Neither when the manifest is gone, which both tools remove before a rerun, nor without the archives' time."""
    manifest = make(tmp_path, "imagenet", layout)
    before = files(manifest.parent)
    times = {path: path.stat().st_mtime_ns for path in manifest.parent.rglob("*.JPEG")}
    if layout != "archive":
        (archives / "imagenet").rename(archives / "away")
    manifest.unlink()
    capsys.readouterr()
    make(tmp_path, "imagenet", layout)
    assert "nothing is read again" in capsys.readouterr().err
    assert files(manifest.parent) == before
    assert times == {path: path.stat().st_mtime_ns for path in manifest.parent.rglob("*.JPEG")}


@pytest.mark.parametrize(
    "layout, file", [("folder", "images/train/n02119789/n02119789_7.JPEG"), ("shards", "shards/train-00001.tar")]
)
def test_a_call_that_finds_images_missing_makes_them(tmp_path, archives, layout, file):
    manifest = make(tmp_path, "imagenet", layout)
    before = files(manifest.parent)
    (manifest.parent / file).unlink()
    make(tmp_path, "imagenet", layout)
    assert files(manifest.parent) == before


def test_other_settings_begin_anew(tmp_path, archives):
    folder = tmp_path / "data" / "set"
    for layout in ("folder", "shards", "folder"):
        config = parse(Official, {"source": "official", "entry": "cifar10", "layout": layout}, "test")
        prepare("set", config, folder)
        assert [open_split(folder / "manifest.parquet", "test").read(0)[:4]] == [b"\x89PNG"]
        assert describe(folder / "manifest.parquet")["config"]["layout"] == layout


def test_a_checked_archive_is_not_read_again(tmp_path, archives, monkeypatch):
    make(tmp_path, "imagenet", "archive")
    monkeypatch.setattr("scfs.io.download.digest", lambda path, algorithm: pytest.fail(f"{path} was read"))
    make(tmp_path, "imagenet", "shards")
    (archives / "imagenet/ILSVRC2012_img_val.tar").touch()
    with pytest.raises(pytest.fail.Exception, match=r"img_val\.tar was read"):
        make(tmp_path, "imagenet", "folder")


def test_archives_that_nobody_may_write_to(tmp_path, archives, monkeypatch, capsys):
    def refuse(path, value):
        raise ScfsError(f"{path}: could not be written")

    monkeypatch.setattr("scfs.data.archives.verified.write_json", refuse)
    make(tmp_path, "cifar10")
    assert "archives/cifar10: cannot be written: its archives are checked anew each time" in capsys.readouterr().err


def test_an_archive_that_may_be_fetched_is(tmp_path, archives, monkeypatch):
    from scfs.config import official_sets as module

    there = (archives / "cifar10/cifar-10-binary.tar.gz").rename(tmp_path / "cifar-10-binary.tar.gz")
    sets = dict(module.catalogue())
    archive = sets["cifar10"].archives["binary"].model_copy(update={"urls": (f"file://{there}",)})
    sets["cifar10"] = sets["cifar10"].model_copy(update={"archives": {"binary": archive}})
    monkeypatch.setattr(module, "catalogue", lambda: sets)
    assert len(open_split(make(tmp_path, "cifar10"), "train")) == 10
    assert (archives / "cifar10/cifar-10-binary.tar.gz").read_bytes() == there.read_bytes()


@pytest.mark.parametrize("workers", [1, 2])
def test_loaders_read_shards(tmp_path, archives, workers, monkeypatch):
    """Also those that were forked when files were open, and with more shards than may be open."""
    from scfs.data import image_set as module

    monkeypatch.setattr(module, "_open_file", module.lru_cache(maxsize=1)(module._OpenFile))
    sets = [open_split(make(tmp_path, "cifar10", layout), "train") for layout in ("folder", "shards")]
    assert len(set(sets[1].files)) > 1
    contents = [sets[0].read(row) for row in range(len(sets[0]))]
    assert [sets[1].read(row) for row in range(len(sets[1]))] == contents
    order = [*range(len(sets[1]))] * 3

    class Contents:
        def __getitem__(self, row):
            return sets[1].read(row)

    assert list(prefetch(Contents(), order, workers)) == contents * 3


@pytest.mark.parametrize("layout", ["folder", "shards", "archive"])
def test_parts_of_a_set_and_two_splits_together(tmp_path, archives, layout):
    """As cells of a grid and transfer sets take them."""
    manifest = make(tmp_path, "imagenet", layout)
    train, val = (open_split(manifest, split) for split in ("train", "val"))
    part = train.subset(np.array([5, 0, 3]))
    assert [part.read(row) for row in range(3)] == [train.read(row) for row in (5, 0, 3)]
    assert part.paths == [train.paths[row] for row in (5, 0, 3)]
    both = part.joined(val)
    contents = [images.read(row) for images in (part, val) for row in range(len(images))]
    assert [both.read(row) for row in range(len(both))] == contents
    again = both.subset(np.array([6, 1]))
    assert [again.read(0), again.read(1)] == [contents[6], contents[1]]
    assert again.where(0).endswith(val.where(3).rpartition("/")[2])


def test_a_sample_is_decoded(tmp_path, archives, monkeypatch):
    decoded = []
    real = ingest.probe_image
    monkeypatch.setattr(ingest, "probe_image", lambda *args: decoded.append(args[2]) or real(*args))
    monkeypatch.setattr(ingest, "SAMPLED", 2)
    sample = make(tmp_path, "cifar10", "shards", check="sample")
    assert 0 < sum(decoded) < len(decoded) == 13
    full = make(tmp_path, "cifar10", "shards", name="full")
    assert open_split(sample, "train").digest == open_split(full, "train").digest


def test_manifests_of_other_sources_have_the_columns_that_they_had(tmp_path, archives):
    from scfs.config.data import ImageFolders

    made = make(tmp_path, "cub200")
    config = ImageFolders(source="folder", splits={"train": str(made.parent / "images/train")})
    prepare("mine", config, tmp_path / "data/mine")
    names = pq.read_schema(tmp_path / "data/mine/manifest.parquet").names
    assert names == COLUMNS.names == pq.read_schema(made).names
    about = describe(tmp_path / "data/mine/manifest.parquet")
    assert set(about) == {"name", "source", "config", "splits"}
    assert set(about["splits"]["train"]) == {"root", "classes", "unreadable"}
