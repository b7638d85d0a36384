import io
import os
import re

import numpy as np
import pytest
from PIL import Image

from scfs.config.data import ImageFolders
from scfs.data.inspection import inspect
from scfs.data.manifest import describe
from scfs.data.opening import open_split
from scfs.data.prepare import prepare
from scfs.data.sources.folders import image_folder, survey
from scfs.data.sources.image_probe import DAMAGED, ONE_COLOUR, TURNED
from scfs.data.verify import verify
from scfs.errors import ScfsError
from scfs.io import progress
from scfs.io.dataset_stats import DatasetStats


def write_image(path, value=0, size=(20, 10), mode="RGB", **options):
    """An image of width and height `size`, each pixel row different."""
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = (np.arange(size[1])[:, None] * 7 + np.arange(size[0]) + value).astype(np.uint8)
    Image.fromarray(levels).convert(mode).save(path, **options)
    return path


def truncate(path):
    path.write_bytes(path.read_bytes()[:-40])


@pytest.fixture
def flat(tmp_path):
    for number, name in enumerate(["b.png", "a.JPEG", "c.Jpg"]):
        write_image(tmp_path / "flat" / name, number, size=(20 + number, 10))
    return tmp_path / "flat"


@pytest.fixture
def labelled(tmp_path):
    for number, name in enumerate(["dog/1.jpg", "cat/2.png", "cat/deeper/3.JPG"]):
        write_image(tmp_path / "labelled" / name, number)
    return tmp_path / "labelled"


def prepared(tmp_path, unreadable="error", **splits):
    config = ImageFolders(source="folder", splits={k: str(v) for k, v in splits.items()}, unreadable=unreadable)
    prepare("mine", config, tmp_path / "data" / "mine")
    return tmp_path / "data" / "mine" / "manifest.parquet"


def test_flat_folder_has_no_labels(flat):
    images = image_folder(flat)
    assert images.paths == ["a.JPEG", "b.png", "c.Jpg"]
    assert images.widths.tolist() == [21, 20, 22]
    assert images.heights.tolist() == [10, 10, 10]
    assert images.labels is None
    assert images.classes == ()
    assert images.read(1) == (flat / "b.png").read_bytes()
    with pytest.raises(ScfsError, match=r"flat, split all: has no labels, and they are needed here"):
        images.require_labels()


def test_sub_folders_are_classes(labelled):
    images = image_folder(labelled)
    assert images.classes == ("cat", "dog")
    assert images.paths == ["cat/2.png", "cat/deeper/3.JPG", "dog/1.jpg"]
    assert images.require_labels().tolist() == [0, 0, 1]
    assert images.labels.dtype == np.int64


def test_manifest_gives_the_same_set_as_the_folder(tmp_path, flat, labelled):
    manifest = prepared(tmp_path, pretrain=flat, train=labelled)
    for split, folder in (("pretrain", flat), ("train", labelled)):
        direct, listed = image_folder(folder), open_split(manifest, split)
        assert listed.name == "mine"
        assert listed.digest == direct.digest
        assert listed.paths == direct.paths
        assert listed.root == direct.root
        assert listed.classes == direct.classes
        np.testing.assert_array_equal(listed.widths, direct.widths)
        assert listed.widths.dtype == np.int32
    with pytest.raises(ScfsError, match="data set mine, split pretrain: has no labels"):
        open_split(manifest, "pretrain").require_labels()


def test_digest_follows_content_and_labels_and_not_the_place(tmp_path, labelled):
    before = image_folder(labelled).digest
    labelled.rename(tmp_path / "elsewhere")
    assert image_folder(tmp_path / "elsewhere").digest == before
    (tmp_path / "elsewhere/dog").rename(tmp_path / "elsewhere/bird")  # now the first class
    assert image_folder(tmp_path / "elsewhere").digest != before
    (tmp_path / "elsewhere/bird").rename(tmp_path / "elsewhere/dog")
    write_image(tmp_path / "elsewhere/dog/1.jpg", 99)
    assert image_folder(tmp_path / "elsewhere").digest != before


def test_classes_are_those_of_all_labelled_splits(tmp_path, flat, labelled):
    write_image(tmp_path / "val/dog/x.png")
    manifest = prepared(tmp_path, pretrain=flat, train=labelled, val=tmp_path / "val")
    assert open_split(manifest, "val").classes == ("cat", "dog")
    assert open_split(manifest, "val").require_labels().tolist() == [1]


def test_the_first_images_of_each_class(tmp_path, flat, labelled):
    splits = {"train": f"{labelled}", "val": f"{labelled}", "pretrain": f"{flat}"}
    config = ImageFolders(source="folder", splits=splits, images_per_class={"train": 1, "pretrain": 2})
    prepare("mine", config, tmp_path / "mine")
    paths = {split: open_split(tmp_path / "mine" / "manifest.parquet", split).paths for split in splits}
    assert paths["train"] == ["cat/2.png", "dog/1.jpg"]
    assert paths["val"] == image_folder(labelled).paths
    assert paths["pretrain"] == ["a.JPEG", "b.png"]
    with pytest.raises(ValueError, match=r"images_per_class\.test: not among the splits"):
        ImageFolders(source="folder", splits=splits, images_per_class={"test": 1})


def test_a_class_that_train_lacks_is_a_warning_with_its_count(tmp_path, labelled, capsys):
    for name in ("ant/1.png", "dog/2.png", "wolf/3.png"):
        write_image(tmp_path / "val" / name)
    manifest = prepared(tmp_path, val=tmp_path / "val", train=labelled)
    assert open_split(manifest, "val").classes == open_split(manifest, "train").classes == ("ant", "cat", "dog", "wolf")
    assert open_split(manifest, "train").require_labels().tolist() == [1, 1, 2]
    said = "warning: data set mine: 2 images of split val have labels that split train lacks, the first is 'ant'"
    assert said in capsys.readouterr().err
    inspect(manifest, "x", tmp_path / "stats.json")
    assert said in capsys.readouterr().err


def test_a_folder_whose_name_is_not_utf8_is_one_line(tmp_path, flat):
    odd = tmp_path / os.fsdecode(b"caf\xe9")
    odd.mkdir()
    (odd / "a.png").write_bytes((flat / "b.png").read_bytes())
    (tmp_path / "link").symlink_to(odd)
    for folder in (odd, tmp_path / "link"):
        with pytest.raises(ScfsError, match=r"caf\\udce9': names of folders must be in UTF-8"):
            image_folder(folder)


def test_hidden_and_other_files_are_ignored(flat):
    write_image(flat / ".hidden.png")
    write_image(flat / ".thumbnails" / "a.png")
    (flat / "notes.txt").write_text("not an image")
    assert len(image_folder(flat)) == 3


def test_exif_orientation_and_colour_mode_are_left_alone(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    write_image(tmp_path / "x/turned.jpg", size=(20, 10), exif=exif.tobytes())
    for mode in ("L", "RGBA", "P", "1"):
        write_image(tmp_path / f"x/{mode}.png", mode=mode)
    write_image(tmp_path / "x/cmyk.jpg", mode="CMYK")
    images = image_folder(tmp_path / "x")
    assert len(images) == 6
    assert set(images.widths.tolist()) == {20}
    assert set(images.heights.tolist()) == {10}


def test_listing_and_reading_are_shown(flat, capsys, monkeypatch):
    monkeypatch.setattr(progress, "PLAIN_LINE_SECONDS", 0.0)
    image_folder(flat)
    shown = capsys.readouterr().err
    assert re.search(rf"^listing {flat}: \d images, ", shown, re.MULTILINE)
    assert re.search(rf"^{flat}: \d/3 images, ", shown, re.MULTILINE)


def test_missing_folder(tmp_path):
    with pytest.raises(ScfsError, match="absent: no such folder"):
        image_folder(tmp_path / "absent")
    with pytest.raises(ScfsError, match="absent: no such folder"):
        prepared(tmp_path, train=tmp_path / "absent")
    assert not (tmp_path / "data/mine/manifest.parquet").exists()


def test_empty_folder(tmp_path):
    (tmp_path / "empty/cat").mkdir(parents=True)
    with pytest.raises(
        ScfsError, match=r"empty: no images in it \(looked for \.jpg, \.jpeg, .*, \.png, \.webp, \.tif, \.tiff, \.bmp\)"
    ):
        image_folder(tmp_path / "empty")


def test_images_beside_and_inside_sub_folders(labelled):
    write_image(labelled / "stray.png")
    with pytest.raises(
        ScfsError, match=r"labelled: images both beside the sub-folders \(stray\.png\) and inside \(cat\)"
    ):
        image_folder(labelled)


@pytest.mark.parametrize("name", ["b.png", "a.JPEG"])
def test_truncated_image_is_an_error_that_names_it(tmp_path, flat, name):
    truncate(flat / name)
    with pytest.raises(
        ScfsError,
        match=rf"flat: 1 of 3 images cannot be decoded, the first is {name} \(.*[Tt]runcated.*--unreadable skip",
    ):
        prepared(tmp_path, train=flat)
    assert not (tmp_path / "data/mine/manifest.parquet").exists()


def test_unreadable_images_are_skipped_with_a_count(tmp_path, labelled, capsys):
    truncate(labelled / "cat/2.png")
    (labelled / "dog/0.jpg").write_bytes(b"not an image")
    manifest = prepared(tmp_path, unreadable="skip", train=labelled)
    images = open_split(manifest, "train")
    assert images.paths == ["cat/deeper/3.JPG", "dog/1.jpg"]
    assert images.require_labels().tolist() == [0, 1]
    assert "2 of 4 images cannot be decoded, the first is cat/2.png" in capsys.readouterr().err
    assert b'"unreadable":2' in manifest.read_bytes()


def test_nothing_left_after_skipping(flat):
    for path in flat.iterdir():
        path.write_bytes(b"")
    with pytest.raises(ScfsError, match=r"3 of 3 images cannot be decoded, .* nothing is left"):
        image_folder(flat, ImageFolders(source="folder", splits={"all": ""}, unreadable="skip"))


def test_other_formats_behind_an_ending_are_refused(flat):
    stream = io.BytesIO()
    Image.new("L", (4, 4)).save(stream, "GIF")
    (flat / "b.png").write_bytes(stream.getvalue())
    with pytest.raises(ScfsError, match=r"b\.png \(not a JPEG, PNG, WEBP, TIFF or BMP\)"):
        image_folder(flat)


def test_names_that_are_not_utf8(flat):
    os.rename(os.fsencode(flat / "b.png"), os.fsencode(flat) + b"/\xff.png")  # noqa: PTH104
    with pytest.raises(ScfsError, match="file names must be in UTF-8"):
        image_folder(flat)


def test_images_that_are_gone_later(tmp_path, flat):
    images = open_split(prepared(tmp_path, train=flat), "train")
    (flat / "a.JPEG").unlink()
    with pytest.raises(ScfsError, match=r"a\.JPEG: cannot be read: No such file"):
        images.read(0)
    flat.rename(tmp_path / "moved")
    with pytest.raises(ScfsError, match="flat: folder of data set mine, split train: not found"):
        open_split(tmp_path / "data/mine/manifest.parquet", "train")


def test_files_of_other_endings_are_counted_by_ending(flat, capsys):
    for name in ("1.heic", "2.HEIC", "clip.mp4", "README", ".hidden.gif"):
        (flat / name).write_bytes(b"")
    assert len(image_folder(flat)) == 3
    assert f"{flat.resolve()}; 4 files of other endings are left out: 2 '.heic', 1 " in capsys.readouterr().err
    for path in flat.glob("*.[jpJ]*"):
        path.unlink()
    with pytest.raises(ScfsError, match=r"no images in it \(looked for .*; \d files of other endings .*: 2 '\.heic', "):
        image_folder(flat)


def test_other_formats_are_images_too(tmp_path):
    kinds = {"a.webp": "WEBP", "b.tif": "TIFF", "c.TIFF": "TIFF", "d.bmp": "BMP", "e.jfif": "JPEG"}
    for name, kind in kinds.items():
        write_image(tmp_path / "x" / name, format=kind)
    assert image_folder(tmp_path / "x").paths == sorted(kinds)


def test_links_in_circles_and_what_is_no_file(tmp_path, labelled):
    (labelled / "cat/latest").symlink_to(".")
    assert len(image_folder(labelled)) == 3
    os.mkfifo(labelled / "dog/pipe.jpg")
    (labelled / "dog/zero.png").symlink_to("/dev/zero")
    with pytest.raises(ScfsError, match=r"2 of 5 images cannot .*first is dog/pipe\.jpg \(not a regular file\)"):
        image_folder(labelled)
    manifest = prepared(tmp_path, unreadable="skip", train=labelled)
    assert verify(manifest).sound


def test_the_limit_of_pixels_is_a_setting(tmp_path, flat):
    config = ImageFolders(source="folder", splits={"all": f"{flat}"}, max_pixels=210)
    with pytest.raises(ScfsError, match=r"1 of 3 .*c\.Jpg \(22 x 10 pixels by its header, at most 210 .*max_pixels\)"):
        prepare("mine", config, tmp_path / "data" / "mine")


def damage(path):
    """End the picture at two thirds, with the marker of its end, so that decoders fill the rest with grey."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3] + b"\xff\xd9")


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_damaged_jpegs_are_counted_and_refused_above_a_share(tmp_path, mode, capsys):
    for number in range(4):
        write_image(tmp_path / "x" / f"{number}.jpg", number, (96, 72), mode)
    damage(tmp_path / "x/2.jpg")
    with pytest.raises(ScfsError, match=r"x: 1 of 4 images are damaged JPEGs, .*the first is 2\.jpg: a share of 0\.01"):
        image_folder(tmp_path / "x")
    config = ImageFolders(source="folder", splits={"train": f"{tmp_path / 'x'}"}, damaged=0.25)
    prepare("mine", config, tmp_path / "data" / "mine")
    assert "1 of 4 images are damaged JPEGs" in capsys.readouterr().err
    manifest = tmp_path / "data/mine/manifest.parquet"
    assert describe(manifest)["splits"]["train"]["notes"] == {DAMAGED: [1, "2.jpg"]}
    inspect(manifest, "0" * 16, tmp_path / "out.json")
    assert "split train: damaged JPEGs: 1 images, the first is 2.jpg" in capsys.readouterr().err


def test_notes_of_images(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    write_image(tmp_path / "x/sound.jpg", size=(40, 30))
    write_image(tmp_path / "x/turned.jpg", size=(40, 30), exif=exif.tobytes())
    write_image(tmp_path / "x/turned.webp", size=(40, 30), exif=exif.tobytes())
    for name in ("black.jpg", "black.png", "black.bmp"):
        Image.new("RGB", (40, 30)).save(tmp_path / "x" / name)
    icon = Image.new("RGBA", (40, 30))
    icon.putalpha(Image.linear_gradient("L").resize((40, 30)))
    icon.save(tmp_path / "x/icon.png")
    (tmp_path / "x/broken_exif.jpg").write_bytes(
        (tmp_path / "x/turned.jpg")
        .read_bytes()
        .replace(b"Exif\0\0II*\0", b"Exif\0\0II\xff\xff")
        .replace(b"Exif\0\0MM\0*", b"Exif\0\0MM\xff\xff")
    )
    manifest = prepared(tmp_path, train=tmp_path / "x")
    notes = describe(manifest)["splits"]["train"]["notes"]
    assert notes == {ONE_COLOUR: [4, "black.bmp"], TURNED: [2, "turned.jpg"]}
    inspect(manifest, "0" * 16, tmp_path / "out.json")
    (split,) = DatasetStats.read(tmp_path / "out.json").splits
    assert split.notes == {note: tuple(found) for note, found in notes.items()}


def test_several_folders_and_lists_are_one_set_without_labels(tmp_path, flat, labelled, capfd):
    both = image_folder([flat, labelled])
    assert both.root == tmp_path.resolve() and both.labels is None and both.classes == ()
    assert both.paths == [*(f"flat/{name}" for name in ("a.JPEG", "b.png", "c.Jpg")),
                          "labelled/cat/2.png", "labelled/cat/deeper/3.JPG", "labelled/dog/1.jpg"]  # fmt: skip
    (labelled / "notes.pdf").touch()
    listed = tmp_path / "list.txt"
    listed.write_text(f"flat/b.png\n\n  {labelled}  \nflat/b.png\n")
    images = image_folder(listed)
    assert images.paths == [
        "flat/b.png",
        *(f"labelled/{name}" for name in ("cat/2.png", "cat/deeper/3.JPG", "dog/1.jpg")),
    ]
    assert "list.txt: 4 images; 1 files of other endings are left out" in capfd.readouterr().err
    assert images.read(0) == (flat / "b.png").read_bytes()
    assert image_folder([listed, flat]).digest == both.digest  # each image once, whatever named it
    assert survey([flat, listed]) == (6, 10)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"flat\nnone\n", "none: no folder and no image"),
        (b"flat/notes.pdf\n", "notes.pdf: no folder and no image"),
        (b"flat/none.png\n", r"none\.png \(No such file or directory\)"),
        (b"caf\xe9.png\n", r"list\.txt: not UTF-8 text"),
        (b"\n", r"list\.txt: 0 images \(looked for"),
    ],
)
def test_a_list_that_names_no_image_is_refused(tmp_path, flat, content, line):
    (flat / "notes.pdf").touch()
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(ScfsError, match=line):
        image_folder(tmp_path / "list.txt")
    with pytest.raises(ScfsError, match="absent: no such folder"):
        image_folder([flat, tmp_path / "absent"])
