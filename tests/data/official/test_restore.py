"""Official images that are missing when a stage opens them: made again from the archives, to the byte, or one line."""

import hashlib
import multiprocessing
import os
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_official import files, install, make, tiny_catalogue

from scfs.config.data import Coco, CocoSplit, Voc
from scfs.data.manifest import describe, load_split
from scfs.data.official import ingest
from scfs.data.opening import open_detection_split, open_split
from scfs.data.prepare import prepare
from scfs.errors import ScfsError

ENTRIES = ("imagenet", "pets", "voc", "coco")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archives")
    return folder, tiny_catalogue(folder, ENTRIES)


@pytest.fixture
def archives(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "sync", lambda: None)  # which waits for all that others write
    shutil.copytree(tiny[0], tmp_path / "datasets/archives")
    install(tiny[1], monkeypatch)
    monkeypatch.setattr(ingest, "MOST_IMAGES", 2)
    return tmp_path / "datasets/archives"


def lost(path):
    """Remove a file or folder."""
    shutil.rmtree(path) if path.is_dir() else path.unlink()


LOSSES = {
    "folder": ("images", "images/train", "images/val/n02119789", "images/train/n02119789/n02119789_7.JPEG"),
    "shards": ("shards", "shards/train-00001.tar", "shards/val-00000.tar"),
}


@pytest.mark.parametrize("layout, what", [(layout, what) for layout, losses in LOSSES.items() for what in losses])
def test_what_is_missing_is_made_again(tmp_path, archives, capsys, layout, what):
    manifest = make(tmp_path, "imagenet", layout)
    before = files(manifest.parent)
    shutil.rmtree(manifest.parent / ".rows")  # as in a clone, which has the manifest alone
    (manifest.parent / "report.json").unlink()
    kept = {path.name: path.stat().st_mtime_ns for path in manifest.parent.rglob("*.*") if path.is_file()}
    lost(manifest.parent / what)
    for split in ("train", "val"):
        digest = hashlib.sha256(b"".join(load_split(manifest, split).hashes))
        images = open_split(manifest, split)
        assert (
            hashlib.sha256(b"".join(hashlib.sha256(images.read(row)).digest() for row in range(len(images)))).digest()
            == digest.digest()
        )
    assert capsys.readouterr().err.count("images are missing, making them again") == 1
    now = files(manifest.parent)
    assert now == {path: content for path, content in before.items() if path in now}
    assert set(before) - set(now) == {path for path in before if path.startswith(".rows")} | {"report.json"}
    if what not in ("images", "shards"):  # what was there stays untouched
        name = "manifest.parquet"
        assert (manifest.parent / name).stat().st_mtime_ns == kept[name]
    open_split(manifest, "train")
    assert "missing" not in capsys.readouterr().err


def test_a_clone_has_the_manifest_alone(tmp_path, archives):
    for entry in ENTRIES:
        manifest = make(tmp_path, entry)
        clone = tmp_path / "clone" / "data" / entry / "manifest.parquet"
        clone.parent.mkdir(parents=True)
        shutil.copy(manifest, clone)
        for split in describe(manifest)["splits"]:
            ours, theirs = open_split(clone, split), open_split(manifest, split)
            assert [ours.read(row) for row in range(len(ours))] == [theirs.read(row) for row in range(len(theirs))]


def test_a_shard_that_was_cut_off_is_made_again(tmp_path, archives):
    manifest = make(tmp_path, "imagenet", "shards")
    before = files(manifest.parent)
    images = open_split(manifest, "train")
    images.read(0)  # the old file stays open
    shard = manifest.parent / "shards" / "train-00000.tar"
    shard.write_bytes(shard.read_bytes()[:900])
    rows = [row for row in range(len(images)) if images.place(row).shard == shard.name]
    with pytest.raises(ScfsError, match=r"train-00000\.tar: cut off: it has no \d+ bytes at \d+"):
        [images.read(row) for row in rows]
    images = open_split(manifest, "train")
    assert files(manifest.parent) == before
    assert hashlib.sha256(images.read(rows[-1])).digest() == load_split(manifest, "train").hashes[rows[-1]]


@pytest.mark.parametrize("layout", ["folder", "shards"])
def test_several_processes_may_ask_at_once(tmp_path, archives, layout):
    manifest = make(tmp_path, "imagenet", layout)
    before = files(manifest.parent)
    for target in ("images", "shards"):
        shutil.rmtree(manifest.parent / target, ignore_errors=True)
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=open_split, args=(manifest, split)) for split in ("train", "val", "train")]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert files(manifest.parent) == before


@pytest.mark.parametrize("layout", ["folder", "shards", "archive"])
def test_without_the_archives(tmp_path, archives, layout):
    manifest = make(tmp_path, "imagenet", layout)
    (archives / "imagenet/ILSVRC2012_img_train.tar").unlink()
    for target in ("images", "shards"):
        shutil.rmtree(manifest.parent / target, ignore_errors=True)
    with pytest.raises(ScfsError) as error:
        open_split(manifest, "train")
    expected = "archives are missing: datasets/archives/imagenet/ILSVRC2012_img_train.tar (by hand: from the tests)"
    assert str(error.value) == expected


def test_an_archive_that_was_cut_off_is_not_read(tmp_path, archives):
    manifest = make(tmp_path, "imagenet", "archive")
    path = archives / "imagenet/ILSVRC2012_img_val.tar"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ScfsError, match=r"img_val\.tar: cut off: .*manifest\.parquet lists images behind its end"):
        open_split(manifest, "val")
    assert len(open_split(manifest, "train")) == 7


def with_column(manifest, name, change):
    table = pq.read_table(manifest)
    table = table.replace_schema_metadata({"scfs": table.schema.metadata[b"scfs"]})  # no digest
    number = table.schema.get_field_index(name)
    values = change(table[name].to_pylist())
    pq.write_table(
        table.set_column(number, table.schema.field(number), pa.array(values, table.schema.field(number).type)),
        manifest,
    )


@pytest.mark.parametrize("layout", ["folder", "shards"])
def test_what_is_made_again_must_be_as_listed(tmp_path, archives, layout):
    manifest = make(tmp_path, "imagenet", layout)
    content = manifest.read_bytes()

    def problem(name, change):
        manifest.write_bytes(content)
        with_column(manifest, name, change)
        for target in ("images", "shards"):
            shutil.rmtree(manifest.parent / target, ignore_errors=True)
        with pytest.raises(ScfsError) as error:
            open_split(manifest, "train")
        assert not (manifest.parent / ".part").exists()
        return str(error.value)

    path = pq.read_table(manifest)["path"][0].as_py()
    line = problem("sha256", lambda values: [bytes(32), *values[1:]])
    assert f"{path} of split train, read again from the archives, is not the image that is listed: run `scfs" in line
    line = problem("path", lambda values: ["n02100735/other.JPEG", *values[1:]])
    assert "1 images that are listed are not in the archives, the first is n02100735/other.JPEG of split train" in line
    if layout == "shards":
        line = problem("offset", lambda values: [values[0] + 512, *values[1:]])
        assert f"{path}, read again, would lie elsewhere in train-" in line


# --- data sets with boxes ---


def as_source(entry, folder):
    """Settings of the source that reads the extracted files."""
    if entry == "coco":
        splits = {
            split: CocoSplit(
                images=f"{folder}/{split}2017", annotations=f"{folder}/annotations/instances_{split}2017.json"
            )
            for split in ("train", "val")
        }
        return Coco(source="coco", splits=splits)
    lists = {
        "train": ("VOC2007/ImageSets/Main/trainval.txt", "VOC2012/ImageSets/Main/trainval.txt"),
        "test": ("VOC2007/ImageSets/Main/test.txt",),
    }
    return Voc(
        source="voc",
        splits={split: tuple(f"{folder}/VOCdevkit/{file}" for file in names) for split, names in lists.items()},
    )


@pytest.mark.parametrize("entry", ["coco", "voc"])
def test_sets_with_boxes_are_what_their_source_reads(tmp_path, archives, entry):
    manifest = make(tmp_path, entry)
    prepare("set", as_source(entry, manifest.parent / "files"), tmp_path / "data" / "source")
    for split in describe(manifest)["splits"]:
        ours, theirs = (
            open_detection_split(tmp_path / "data" / name / "manifest.parquet", split)
            for name in ("set-folder", "source")
        )
        assert ours.images.digest == theirs.images.digest
        assert ours.images.paths == theirs.images.paths
        assert ours.images.classes == theirs.images.classes
        assert ours.annotations.read_bytes() == theirs.annotations.read_bytes()
        assert ours.digest == theirs.digest
        np.testing.assert_array_equal(ours.images.widths, theirs.images.widths)
        assert not ours.annotations.is_absolute() or ours.annotations.is_relative_to(manifest.parent)


@pytest.mark.parametrize("entry", ["coco", "voc"])
def test_a_second_call_extracts_nothing(tmp_path, archives, entry, capsys):
    manifest = make(tmp_path, entry)
    before = files(manifest.parent)
    shutil.rmtree(archives / entry)
    manifest.unlink()
    make(tmp_path, entry)
    assert "all files are there: nothing is read again" in capsys.readouterr().err
    assert files(manifest.parent) == before


@pytest.mark.parametrize(
    "entry, what",
    [
        ("coco", "files"),
        ("coco", "files/annotations/instances_val2017.json"),
        ("coco", "files/val2017/000000000139.jpg"),
        ("voc", "files"),
        ("voc", "annotations"),
        ("voc", "files/VOCdevkit/VOC2007/JPEGImages/000001.jpg"),
    ],
)
def test_files_with_boxes_are_made_again(tmp_path, archives, entry, what):
    manifest = make(tmp_path, entry)
    before = files(manifest.parent)
    lost(manifest.parent / what)
    for split in describe(manifest)["splits"]:
        open_detection_split(manifest, split)
    assert files(manifest.parent) == before


def test_extracted_images_must_be_as_listed(tmp_path, archives):
    manifest = make(tmp_path, "coco")
    with_column(manifest, "sha256", lambda values: [bytes(32), *values[1:]])
    shutil.rmtree(manifest.parent / "files")
    with pytest.raises(ScfsError, match=r"000000000009\.jpg of split train, read again from the archives, is not the"):
        open_split(manifest, "train")
