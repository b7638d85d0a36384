"""Tables of one's own images: CSV and Parquet, labels, and every bad table one line."""

from datetime import date
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
from scfs.data.sources.tables import read_table
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
        ("path,label\na.png,dog,more\n", "train.csv: row 1: 3 cells, and the header has 2"),
        ("path,label\na.png,dog\n\nb.jpg\n", "train.csv: row 2: 1 cells, and the header has 2"),
        ("", r"train.csv: has no column 'path': its columns are \[\]"),
        ("path;label\na.png;dog\n", r"train.csv: has no column 'path': its columns are \['path;label'\]"),
        ("path,label,label\na.png,dog,dog\n", "train.csv: column 'label' stands there 2 times: allowed is once"),
        ("path, label,path \na.png,dog,b.jpg\n", "train.csv: column 'path' stands there 2 times: allowed is once"),
        ("path\na\0.png\n", r"train.csv: row 1: path = 'a\\x00.png': NUL is not allowed"),
        ("path,label\na.png,d\0g\n", r"train.csv: row 1: label = 'd\\x00g': NUL is not allowed"),
        ('path,label\na.png,"dog\nb.jpg,cat\n', "train.csv: not a table: unexpected end of data"),
    ],
)
def test_a_bad_table_is_one_line_and_leaves_nothing(folder: Path, content: str, said: str) -> None:
    (folder / "train.csv").write_text(content)
    with pytest.raises(ScfsError, match=said) as error:
        prepare("mine", table(train="mine/train.csv"), Path("data/mine"))
    assert "\n" not in str(error.value)
    assert not Path("data/mine/manifest.parquet").exists()


LABELS = [
    ("1", "1.0", "01", "001"),
    ("true", "True", "TRUE", "false"),
    ("1e3", "1000", "1E3", "inf"),
    ("12:30", "12:30:00", "12:31", "nan"),
    ("2020-01-01", "2020-1-1", "20200101", "2020-01-01 00:00:00"),
    ("12345678901234567890123", "12345678901234567890124", "-0", "0"),
    ("NA", "null", "None", "n/a"),
    ("ä", "a\u2028b", "a\x85b", 'say "x", y'),
]


@pytest.mark.parametrize("labels", LABELS, ids=[labels[0] for labels in LABELS])
def test_labels_of_a_csv_keep_their_text(folder: Path, labels: tuple[str, ...]) -> None:
    images = ["a.png", "b.jpg", "deep/c.png", "d.png"]
    quoted = ['"{}"'.format(label.replace('"', '""')) for label in labels]
    rows = [f"{image},{label}" for image, label in zip(images, quoted, strict=True)]
    for split, chosen in (("train", rows), ("val", rows[1:2]), ("test", [*rows[3:], "a.png,word"])):
        (folder / f"{split}.csv").write_bytes("\r\n".join(["path,label", *chosen]).encode("utf-8-sig"))
    assert read_table(folder / "train.csv") == (images, list(labels))
    prepare("mine", table(**{s: f"mine/{s}.csv" for s in ("train", "val", "test")}), Path("data/mine"))
    for split, wanted in (("train", labels), ("val", labels[1:2]), ("test", (labels[3], "word"))):
        found = open_split(Path("data/mine/manifest.parquet"), split)
        assert found.classes == tuple(sorted([*labels, "word"]))
        assert [found.classes[label] for label in found.require_labels()] == list(wanted)


def test_a_label_that_train_lacks_is_a_warning_with_its_count(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "train.csv").write_text("path,label\na.png,001\n")
    (folder / "val.csv").write_text("path,label\nb.jpg,1\nd.png,1\ndeep/c.png,001\n")
    prepare("mine", table(val="mine/val.csv", train="mine/train.csv"), Path("data/mine"))
    said = "warning: data set mine: 2 images of split val have labels that split train lacks, the first is '1'"
    assert said in capsys.readouterr().err


def test_names_of_columns_are_stripped_and_a_table_without_labels_says_so(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "train.csv").write_text('path, label\na.png, x\nb.jpg, "y"\n')
    assert read_table(folder / "train.csv") == (["a.png", "b.jpg"], ["x", "y"])
    pq.write_table(pa.table({" path": ["a.png"], "label ": [7]}), folder / "test.parquet")
    assert read_table(folder / "test.parquet") == (["a.png"], ["7"])
    assert capsys.readouterr().err == ""
    (folder / "train.csv").write_text("path,class\na.png,x\n")
    assert read_table(folder / "train.csv") == (["a.png"], None)
    said = "train.csv: its images have no labels, as no column is named 'label': its columns are ['path', 'class']"
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16"])
def test_another_encoding_is_refused_with_the_row(folder: Path, encoding: str) -> None:
    (folder / "train.csv").write_bytes("path,label\na.png,dog\nb.jpg,Säge\n".encode(encoding))
    row = 0 if encoding == "utf-16" else 2
    with pytest.raises(ScfsError, match=rf"train.csv: row {row} \(0 is the header\): not UTF-8 text"):
        read_table(folder / "train.csv")


def test_columns_of_parquet_are_text_or_whole_numbers(folder: Path) -> None:
    def read(**columns: object) -> tuple[list[str], list[str] | None]:
        pq.write_table(pa.table({"path": ["a.png", "b.jpg"], **columns}), folder / "train.parquet")
        return read_table(folder / "train.parquet")

    assert read(label=pa.array(["01", "1"]).dictionary_encode())[1] == ["01", "1"]
    assert read(label=pa.array(["01", "1"], pa.large_string()))[1] == ["01", "1"]
    assert read(label=pa.array([2**63 - 1, -1]))[1] == ["9223372036854775807", "-1"]
    for values in ([1.0, 2.0], [True, False], [date(2020, 1, 1)] * 2, [b"\xff", b"x"], [None, None]):
        with pytest.raises(ScfsError, match=r"train.parquet: column 'label' is of the type .*: text or whole numbers"):
            read(label=pa.array(values))
    damaged = pa.Array.from_buffers(pa.string(), 2, pa.array([b"\xff", b"x"]).buffers())
    with pytest.raises(ScfsError, match=r"train.parquet: column .label.: not UTF-8 text: .*string index 0"):
        read(label=damaged)
    with pytest.raises(ScfsError, match=r"train.parquet: row 2: label is empty"):
        read(label=pa.array(["x", None]))
    pq.write_table(pa.Table.from_arrays([pa.array(["a"])] * 2, names=["path", "path "]), folder / "train.parquet")
    with pytest.raises(ScfsError, match="column 'path' stands there 2 times"):
        read_table(folder / "train.parquet")


def test_a_missing_table_and_another_ending(folder: Path) -> None:
    with pytest.raises(ScfsError, match=r"mine/none.csv: cannot be read"):
        prepare("mine", table(train="mine/none.csv"), Path("data/mine"))
    with pytest.raises(ScfsError, match=r"mine/train.txt: a table of images ends in .csv or .parquet"):
        prepare("mine", table(train="mine/train.txt"), Path("data/mine"))
