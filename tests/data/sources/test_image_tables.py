"""Tables of one's own images: CSV and Parquet, labels, and every bad table one line."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from scfs.config.base import parse
from scfs.config.data import ImageTable
from scfs.data.opening import open_split
from scfs.data.prepare import prepare
from scfs.errors import ScfsError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine" / "deep").mkdir(parents=True)
    for number, name in enumerate(["a.png", "b.jpg", "deep/c.png", "d.png"]):
        pixels = np.full((10 + number, 20, 3), 40 * number, np.uint8)
        Image.fromarray(pixels).save(tmp_path / "mine" / name)
    return tmp_path / "mine"


def table(**splits: str) -> ImageTable:
    config: ImageTable = parse(ImageTable, {"source": "table", "splits": splits}, "test")
    return config


def test_paths_and_labels_of_a_csv_and_of_a_parquet_file(folder: Path) -> None:
    (folder / "train.csv").write_text("path,label,remark\nb.jpg,dog,x\ndeep/c.png,cat,\n")
    test = {"path": [str(folder / "d.png"), "a.png"], "label": ["emu", "dog"]}
    pq.write_table(pa.table(test), folder / "test.parquet")
    prepare("mine", table(train="mine/train.csv", test="mine/test.parquet"), Path("data/mine"))
    train, test_split = (open_split(Path("data/mine/manifest.parquet"), split) for split in ("train", "test"))
    assert train.classes == test_split.classes == ("cat", "dog", "emu")
    assert train.paths == ["b.jpg", "deep/c.png"] and train.require_labels().tolist() == [1, 0]
    assert test_split.require_labels().tolist() == [2, 1]
    assert train.heights.tolist() == [11, 12] and test_split.heights.tolist() == [13, 10]
    assert test_split.read(0) == (folder / "d.png").read_bytes()
    first = Path("data/mine/manifest.parquet").read_bytes()
    prepare("mine", table(train="mine/train.csv", test="mine/test.parquet"), Path("data/mine"))
    assert Path("data/mine/manifest.parquet").read_bytes() == first


def test_numbers_are_names_of_classes_and_a_table_without_labels_has_none(folder: Path) -> None:
    (folder / "train.csv").write_text("path,label\na.png,10\nb.jpg,9\n")
    (folder / "more.csv").write_text("path\nd.png\n")
    prepare("mine", table(train="mine/train.csv", more="mine/more.csv"), Path("data/mine"))
    assert open_split(Path("data/mine/manifest.parquet"), "train").classes == ("10", "9")
    assert open_split(Path("data/mine/manifest.parquet"), "more").labels is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("file,label\na.png,dog\n", r"train.csv: has no column 'path': its columns are \['file', 'label'\]"),
        ("path,label\n", "train.csv: has no rows"),
        ("path,label\na.png,dog\na.png,cat\n", "train.csv: 'a.png' stands there 2 times: allowed is once"),
        ("path,label\na.png,dog\nb.jpg,\n", "train.csv: row 2: label is empty"),
        ("path,label\na.png,dog\nnone.png,cat\n", "1 of 2 images cannot be decoded, the first is none.png"),
        ("path,label\na.png,dog,more\n", "train.csv: not a table: CSV parse error"),
    ],
)
def test_a_bad_table_is_one_line_and_leaves_nothing(folder: Path, content: str, said: str) -> None:
    (folder / "train.csv").write_text(content)
    with pytest.raises(ScfsError, match=said) as error:
        prepare("mine", table(train="mine/train.csv"), Path("data/mine"))
    assert "\n" not in str(error.value)
    assert not Path("data/mine/manifest.parquet").exists()


def test_a_missing_table_and_another_ending(folder: Path) -> None:
    with pytest.raises(ScfsError, match=r"mine/none.csv: cannot be read"):
        prepare("mine", table(train="mine/none.csv"), Path("data/mine"))
    with pytest.raises(ScfsError, match=r"mine/train.txt: a table of images ends in .csv or .parquet"):
        prepare("mine", table(train="mine/train.txt"), Path("data/mine"))
