"""`verify` finds what was lost, what rotted and what was added, for every source, and changes nothing."""

import os
import shutil

import pytest
from tiny_boxes import write_coco, write_image, write_voc
from tiny_official import files, install, make, tiny_catalogue

from scfs import paths
from scfs.config.data import Coco, ImageFolders, Official, Voc
from scfs.config.scenes import GarmentScenes
from scfs.data.official import ingest
from scfs.data.opening import open_split
from scfs.data.prepare import prepare
from scfs.data.verify import verify
from scfs.errors import ScfsError


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archives")
    return folder, tiny_catalogue(folder, ("imagenet", "coco", "voc"))


@pytest.fixture
def archives(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "sync", lambda: None)  # which waits for all that others write
    shutil.copytree(tiny[0], tmp_path / "datasets/archives")
    install(tiny[1], monkeypatch)
    monkeypatch.setattr(ingest, "MOST_IMAGES", 2)
    return tmp_path / "datasets/archives"


def rot(path, place=-1):
    """Change one bit; neither size nor time tell."""
    times = path.stat()
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def found(manifest, folder):
    """What `verify` says, without the folder's name."""
    before = files(folder)
    report = verify(manifest)
    assert files(folder) == before
    assert report.sound == (not report.missing + report.changed + report.extra)
    kinds = (report.missing, report.changed, report.extra)
    return tuple([name.replace(f"{folder}/", "") for name in names] for names in kinds)


SOUND = ([], [], [])


def test_official_files(tmp_path, archives):
    manifest = make(tmp_path, "imagenet")
    folder = manifest.parent
    assert found(manifest, folder) == SOUND
    assert str(verify(manifest)) == f"{manifest}: all 11 images are as listed"
    rot(folder / "images/train/n02105855/n02105855_11.JPEG")
    (folder / "images/val/n02119789/ILSVRC2012_val_00000002.JPEG").unlink()
    write_image(folder / "images/train/n02105855/new.png", 3, 4)
    missing, changed, extra = found(manifest, folder)
    assert missing == ["images/val/n02119789/ILSVRC2012_val_00000002.JPEG"]
    assert changed == ["images/train/n02105855/n02105855_11.JPEG (another content)"]
    assert extra == ["images/train/n02105855/new.png"]
    text = str(verify(manifest)).splitlines()
    assert text[0] == f"{manifest}: 1 missing:" and text[1].startswith("  ") and len(text) == 7
    assert "made again" in text[-1]


def test_shards(tmp_path, archives):
    manifest = make(tmp_path, "imagenet", "shards")
    folder = manifest.parent
    assert found(manifest, folder) == SOUND
    train = open_split(manifest, "train")
    train.read(0)
    (folder / "shards/val-00001.tar").unlink()
    place = train.place(2)
    rot(folder / "shards" / place.shard, place.offset + place.size - 1)
    (folder / "shards/train-00099.tar").touch()
    missing, changed, extra = found(manifest, folder)
    assert missing == ["shards/val-00001.tar"]
    assert changed == [f"shards/{place.shard}: {train.paths[2]} (another content)"]
    assert extra == ["shards/train-00099.tar"]


def test_images_in_archives(tmp_path, archives):
    manifest = make(tmp_path, "imagenet", "archive")
    assert found(manifest, manifest.parent) == SOUND
    place = open_split(manifest, "val").place(0)
    rot(archives / place.shard, place.offset + 30)
    changed = found(manifest, manifest.parent)[1]
    assert len(changed) == 1 and changed[0].endswith("(another content)")
    (archives / "imagenet/ILSVRC2012_img_train.tar").unlink()
    missing = found(manifest, manifest.parent)[0]
    assert len(missing) == 1 and missing[0].endswith("imagenet/ILSVRC2012_img_train.tar")


def test_many_names_are_counted(tmp_path, archives):
    manifest = make(tmp_path, "imagenet")
    for number in range(14):
        (manifest.parent / f"images/train/{number}.png").touch()
    text = str(verify(manifest)).splitlines()
    assert text[0] == f"{manifest}: 14 extra:" and text[11] == "  and 4 more" and len(text) == 12


@pytest.mark.parametrize("entry", ["coco", "voc"])
def test_official_boxes(tmp_path, archives, entry):
    manifest = make(tmp_path, entry)
    folder = manifest.parent
    assert found(manifest, folder) == SOUND
    test = open_split(manifest, "val" if entry == "coco" else "test")
    rot(test.root / test.paths[0])
    boxes = "files/annotations/instances_train2017.json" if entry == "coco" else "annotations/train.json"
    rot(folder / boxes)
    missing, changed, extra = found(manifest, folder)
    image = (test.root / test.paths[0]).relative_to(folder)
    assert sorted(changed) == [f"{boxes} (another content)", f"{image} (another content)"]
    assert (missing, extra) == ([], [])


def test_folders_of_ones_own(tmp_path):
    for name in ("cat/1.png", "cat/2.png", "dog/3.png", "bird/4.png"):
        write_image(tmp_path / "mine" / name, 8 + int(name[-5]), 9)
    (tmp_path / "mine/cat/broken.png").write_bytes(b"no image")
    (tmp_path / "mine/cat/notes.txt").write_text("not an image, and not looked at")
    config = ImageFolders(source="folder", splits={"train": f"{tmp_path}/mine"}, unreadable="skip")
    manifest = tmp_path / "data" / "mine" / "manifest.parquet"
    prepare("mine", config, manifest.parent)
    assert found(manifest, tmp_path) == SOUND
    rot(tmp_path / "mine/cat/2.png")
    (tmp_path / "mine/dog/3.png").unlink()
    write_image(tmp_path / "mine/bird/5.png", 3, 4)
    missing, changed, extra = found(manifest, tmp_path)
    assert (missing, changed, extra) == (["mine/dog/3.png"], ["mine/cat/2.png (another content)"], ["mine/bird/5.png"])


def test_classes_that_a_list_leaves_out_are_not_extra(tmp_path):
    import hashlib

    for name in ("cat/1.png", "dog/3.png"):
        write_image(tmp_path / "mine" / name, 8, 9)
    (tmp_path / "list.txt").write_text("cat\n")
    listed = {"file": f"{tmp_path}/list.txt", "sha256": hashlib.sha256(b"cat\n").hexdigest(), "url": "x"}
    config = ImageFolders(source="folder", splits={"train": f"{tmp_path}/mine"}, class_list=listed)
    prepare("mine", config, tmp_path / "data")
    assert found(tmp_path / "data" / "manifest.parquet", tmp_path) == SOUND


def test_coco_of_ones_own(tmp_path):
    config = Coco(source="coco", splits={"train": write_coco(tmp_path)})
    prepare("mine", config, tmp_path / "data")
    manifest = tmp_path / "data" / "manifest.parquet"
    write_image(tmp_path / "train" / "another.png", 4, 4)  # as the unlabelled images beside COCO's
    assert found(manifest, tmp_path) == SOUND
    (tmp_path / "train/z.png").unlink()
    rot(tmp_path / "train.json", 3)
    assert found(manifest, tmp_path) == (["train/z.png"], ["train.json (another content)"], [])
    (tmp_path / "train.json").unlink()
    assert found(manifest, tmp_path)[0] == ["train/z.png", "train.json"]


def test_a_devkit_of_ones_own(tmp_path):
    images = {name: ((20, 10), [("dog", (2, 3, 12, 9), "0")]) for name in ("1", "2")}
    file = write_voc(tmp_path / "VOC2007", "train", images)
    prepare("mine", Voc(source="voc", splits={"train": (str(file),)}), tmp_path / "data")
    manifest = tmp_path / "data" / "manifest.parquet"
    assert found(manifest, tmp_path) == SOUND
    rot(tmp_path / "VOC2007/JPEGImages/2.jpg", 200)
    (tmp_path / "data/annotations/train.json").unlink()
    assert found(manifest, tmp_path) == (
        ["data/annotations/train.json"], ["VOC2007/JPEGImages/2.jpg (another content)"], []
    )  # fmt: skip


def test_garment_scenes(tmp_path):
    config = GarmentScenes(
        source="garment-scenes", splits={"train": {"scenes": 3}, "val": {"scenes": 2, "part": "test"}}
    )
    prepare("scenes", config, tmp_path)
    manifest = tmp_path / "manifest.parquet"
    assert found(manifest, tmp_path) == SOUND
    rot(tmp_path / "images/val/000001.png")
    write_image(tmp_path / "images/train/000003.png", 4, 4)
    (tmp_path / "images/train/000000.png").unlink()
    assert found(manifest, tmp_path) == (
        ["images/train/000000.png"], ["images/val/000001.png (another content)"], ["images/train/000003.png"]
    )  # fmt: skip


def test_an_image_that_cannot_be_read(tmp_path):
    write_image(tmp_path / "mine/1.png", 8, 9)
    prepare("mine", ImageFolders(source="folder", splits={"train": f"{tmp_path}/mine"}), tmp_path / "data")
    (tmp_path / "mine/1.png").unlink()
    (tmp_path / "mine/1.png").symlink_to("1.png")  # a link in a circle: nobody can read it
    report = verify(tmp_path / "data" / "manifest.parquet")
    assert [len(names) for names in (report.missing, report.changed, report.extra)] == [0, 1, 0]
    assert report.changed[0].endswith("1.png (cannot be read)")


def test_no_manifest(tmp_path):
    with pytest.raises(ScfsError, match=r"manifest\.parquet: not found: run `scfs prepare"):
        verify(tmp_path / "manifest.parquet")


def test_archives_are_looked_for_where_the_list_says():
    assert Official(source="official", entry="cifar10").archives == str(paths.archives())
