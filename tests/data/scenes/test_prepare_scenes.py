import hashlib
import json
import multiprocessing
import pickle
import resource
import shutil
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from scfs.config.scenes import GarmentScenes
from scfs.config.study import parse_study
from scfs.data.coco_rle import load_masks
from scfs.data.opening import open_split
from scfs.data.prepare import prepare
from scfs.data.scenes import files as scene_images
from scfs.errors import ScfsError
from scfs.io.locks import folder_lock

KINDS = {
    "pretrain": {"scenes": 32},
    "val": {"scenes": 32, "part": "test"},
    "transfer": {"scenes": 32, "classes": "held-out"},
    "boxes": {"scenes": 32, "garments": (1, 4)},
}
GOLDEN = Path(__file__).parent / "golden_scenes.json"


def make(folder, splits=KINDS, seed=0):
    prepare("scenes", GarmentScenes(source="garment-scenes", seed=seed, splits=splits), folder)
    return folder / "manifest.parquet"


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@contextmanager
def no_file_larger_than(number):
    """What a full disk does: writing raises OSError (here EFBIG) in the middle of a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (number, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return make(tmp_path_factory.mktemp("prepared") / "scenes")


@pytest.fixture
def manifest(prepared, tmp_path):
    shutil.copytree(prepared.parent, tmp_path / "scenes")
    return tmp_path / "scenes" / "manifest.parquet"


def test_same_bytes_as_committed_on_any_machine(prepared):
    made = {
        split: {
            "images_and_labels": open_split(prepared, split).digest,
            "annotations": hashlib.sha256((prepared.parent / f"annotations/{split}.json").read_bytes()).hexdigest(),
        }
        for split in KINDS
    }
    assert made == json.loads(GOLDEN.read_text())


def test_repeating_gives_the_same_files(manifest, prepared):
    before = files(manifest.parent)
    make(manifest.parent)
    assert files(manifest.parent) == before


def test_another_seed_gives_other_images(prepared, tmp_path):
    other = make(tmp_path / "scenes", {"pretrain": {"scenes": 32}}, seed=1)
    assert open_split(other, "pretrain").digest != open_split(prepared, "pretrain").digest


def test_split_is_what_the_files_say(prepared):
    images = open_split(prepared, "val")
    assert len(images) == 32
    assert images.name == "scenes"
    assert images.split == "val"
    assert images.paths[3] == "val/000003.png"
    assert images.classes == ("T-shirt/top", "Trouser", "Dress", "Coat", "Shirt", "Sneaker", "Ankle boot")
    assert set(images.widths.tolist()) == set(images.heights.tolist()) == {96}
    listed = pq.read_table(prepared).filter(pa.compute.field("split") == "val")
    for row, sha256 in enumerate(listed["sha256"].to_pylist()):
        assert hashlib.sha256(images.read(row)).digest() == sha256
    with Image.open(images.root / images.paths[0]) as image:
        assert (image.mode, image.size) == ("L", (96, 96))
    assert pickle.loads(pickle.dumps(images)).digest == images.digest


def test_classes_and_labels_belong_to_the_split(prepared):
    transfer = open_split(prepared, "transfer")
    assert transfer.classes == ("Pullover", "Sandal", "Bag")
    assert set(transfer.require_labels().tolist()) == {0, 1, 2}
    assert open_split(prepared, "pretrain").require_labels().max() == 6


def test_scenes_of_several_garments_have_no_label(prepared):
    with pytest.raises(ScfsError, match="data set scenes, split boxes: has no labels"):
        open_split(prepared, "boxes").require_labels()


def test_annotations_agree_with_the_manifest(prepared):
    for split in KINDS:
        images = open_split(prepared, split)
        path = prepared.parent / "annotations" / f"{split}.json"
        coco = json.loads(path.read_text())
        assert [image["file_name"] for image in coco["images"]] == images.paths
        assert [category["name"] for category in coco["categories"]] == list(images.classes)
        if images.labels is not None:
            assert [item["category_id"] - 1 for item in coco["annotations"]] == images.labels.tolist()
        masks = load_masks(path)
        assert list(masks) == images.paths
        for item in coco["annotations"]:
            left, top, width, height = item["bbox"]
            mask = masks[images.paths[item["image_id"] - 1]]
            assert mask.shape == (96, 96)
            assert mask[top : top + height, left : left + width].sum() >= item["area"] > 0


def test_missing_images_are_made_again(manifest, capsys):
    images = manifest.parent / "images"
    before = files(images)
    digest = open_split(manifest, "val").digest
    assert "missing" not in capsys.readouterr().err
    for damage in (
        lambda: shutil.rmtree(images),
        lambda: (images / ".complete").unlink(),
        lambda: (images / "val/000005.png").unlink(),
        lambda: shutil.rmtree(images / "val"),
    ):
        damage()
        assert open_split(manifest, "val").digest == digest
        assert "images are missing, making 128 scenes" in capsys.readouterr().err
        assert files(images) == before


def test_missing_annotations_are_made_again(manifest, capsys):
    before = files(manifest.parent)
    annotations = manifest.parent / "annotations"
    marked = (manifest.parent / "images" / ".complete").stat()
    for damage in (lambda: shutil.rmtree(annotations), lambda: (annotations / "boxes.json").unlink()):
        damage()
        open_split(manifest, "val")
        assert "images: their annotations are missing" in capsys.readouterr().err
        assert files(manifest.parent) == before
    assert (manifest.parent / "images" / ".complete").stat() == marked, "the images were made again as well"
    open_split(manifest, "val")
    assert "missing" not in capsys.readouterr().err


def test_the_manifest_alone_gives_images_and_annotations(prepared, tmp_path):
    (tmp_path / "scenes").mkdir()
    shutil.copy(prepared, tmp_path / "scenes")
    open_split(tmp_path / "scenes" / "manifest.parquet", "val")
    assert files(tmp_path / "scenes") == files(prepared.parent)


def test_images_and_annotations_of_another_manifest_are_replaced(manifest, prepared):
    make(manifest.parent, seed=1)
    shutil.copy(prepared, manifest)
    open_split(manifest, "val")
    assert files(manifest.parent) == files(prepared.parent)


def test_new_images_never_stand_beside_old_annotations(manifest, prepared):
    """The disk is full when the images are there and their annotations are next."""
    with no_file_larger_than(11_000), pytest.raises(ScfsError, match=r"pretrain\.json: could not be written"):
        make(manifest.parent, seed=1)
    assert not list((manifest.parent / "annotations").glob("*.json"))
    open_split(manifest, "val")
    assert files(manifest.parent) == files(prepared.parent)


@pytest.mark.parametrize("lost", ["images", "annotations"])
def test_what_is_rebuilt_must_be_as_listed(manifest, lost):
    table = pq.read_table(manifest)
    column = table.schema.get_field_index("sha256")
    hashes = [bytes(32), *table["sha256"].to_pylist()[1:]]
    table = table.set_column(column, table.schema.field(column), pa.array(hashes, pa.binary(32)))
    pq.write_table(table.replace_schema_metadata({"scfs": table.schema.metadata[b"scfs"]}), manifest)  # no digest
    if lost == "annotations":
        listed = dict(zip(table["path"].to_pylist(), hashes))
        (manifest.parent / "images" / ".complete").write_text(scene_images._digest(listed))
    shutil.rmtree(manifest.parent / lost)
    with pytest.raises(ScfsError, match=r"pretrain/000000\.png, made anew, is not the image that is listed: .*again"):
        open_split(manifest, "val")


def _open(manifest):
    open_split(manifest, "val")


@pytest.mark.parametrize(("start", "lost"), [("spawn", "images"), ("fork", "images"), ("fork", "annotations")])
def test_processes_side_by_side_rebuild_once(manifest, capfd, start, lost):
    shutil.rmtree(manifest.parent / lost)
    context = multiprocessing.get_context(start)
    openers = [context.Process(target=_open, args=(manifest,)) for _ in range(2)]
    with folder_lock(manifest.parent / "images"):
        for opener in openers:
            opener.start()
        time.sleep(0.3)
        assert not (manifest.parent / lost).exists()
    for opener in openers:
        opener.join(60)
        assert opener.exitcode == 0
    assert capfd.readouterr().err.count(f"{lost} are missing") == 1


def test_full_disk_loses_nothing(manifest, prepared):
    before = files(manifest.parent)
    with no_file_larger_than(5000), pytest.raises(ScfsError, match="images: could not be written: File too large"):
        make(manifest.parent, seed=1)
    assert files(manifest.parent) == before


def test_manifest_comes_last(tmp_path):
    with no_file_larger_than(11_000), pytest.raises(ScfsError, match=r"pretrain\.json: could not be written"):
        make(tmp_path / "scenes")
    assert not (tmp_path / "scenes/manifest.parquet").exists()


def test_unknown_split(prepared):
    with pytest.raises(ScfsError, match=r"split = 'test': not among \['boxes', 'pretrain', 'transfer', 'val'\]"):
        open_split(prepared, "test")


def test_missing_manifest_says_what_to_run(tmp_path):
    with pytest.raises(ScfsError, match="not found: run `scfs prepare scenes` first"):
        open_split(tmp_path / "scenes" / "manifest.parquet", "train")


def test_file_that_is_no_manifest(tmp_path):
    path = tmp_path / "scenes" / "manifest.parquet"
    path.parent.mkdir()
    path.write_text("path,label\n")
    with pytest.raises(ScfsError, match=r"manifest\.parquet: damaged, or not a Parquet file"):
        open_split(path, "train")
    pq.write_table(pa.table({"path": ["a"]}), path)
    with pytest.raises(ScfsError, match=r"manifest\.parquet: not a manifest"):
        open_split(path, "train")


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"x": {"scenes": 1, "garments": [3, 1]}}, r"splits\.x\.garments: must be \[low, high\] with low <= high"),
        ({}, r"splits\b.*at least 1 item"),
    ],
)
def test_bad_settings(splits, message):
    scenes = {"source": "garment-scenes", "splits": splits}
    with pytest.raises(ScfsError, match=rf"^params\.yaml: data\.scenes\.(garment-scenes\.)?{message}"):
        parse_study({"study": "x", "data": {"scenes": scenes}, "pretrain": {"dataset": "scenes"}, "runs": {"one": {}}})


def test_more_scenes_than_garments_are_fine(tmp_path):
    images = open_split(make(tmp_path / "scenes", {"x": {"scenes": 1000, "part": "test", "classes": "held-out"}}), "x")
    assert len({images.read(row) for row in range(0, 1000, 10)}) == 100
    assert np.bincount(images.require_labels()).min() > 250
