"""Files and folders that appear whole; arrays on disk are what was written, with equal bytes on every machine."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from scfs.errors import ScfsError
from scfs.io.atomic import move_into_place, replacing_folder, write_arrays, write_json
from scfs.io.locks import file_lock

ARRAYS = {"a/image": np.arange(6, dtype=np.uint8).reshape(2, 3), "names": np.array(["ä", "b"]), "scalar": np.array(0.5)}


@pytest.mark.parametrize("compressed", [False, True])
def test_arrays_come_back_and_have_the_plain_header(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "arrays.npz"
    write_arrays(path, ARRAYS, compressed)
    with np.load(path) as found:
        assert list(found) == list(ARRAYS)
        for name, array in ARRAYS.items():
            assert found[name].dtype == array.dtype and np.array_equal(found[name], array)
    with zipfile.ZipFile(path) as archive:
        # Python 3.11.4 changed the version that zip64 entries ask for; plain entries ask for 2.0 everywhere.
        assert {(entry.extract_version, entry.date_time, entry.extra) for entry in archive.infolist()} == {
            (20, (1980, 1, 1, 0, 0, 0), b"")
        }
    first = path.read_bytes()
    write_arrays(path, ARRAYS, compressed)
    assert path.read_bytes() == first


def test_objects_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="allow_pickle"):
        write_arrays(tmp_path / "arrays.npz", {"bad": np.array([{}])})
    assert not list(tmp_path.iterdir())


def test_what_a_killed_writer_left_is_removed_and_what_another_one_writes_is_not(tmp_path: Path) -> None:
    for name in (".a[1].json.7.tmp", ".a[1].json.8.tmp", ".a1.json.9.tmp"):
        (tmp_path / name).write_text("half")
    with file_lock(tmp_path / ".a[1].json.8.tmp"):
        write_json(tmp_path / "a[1].json", {})
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a1.json.9.tmp", ".a[1].json.8.tmp", "a[1].json"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    images = tmp_path / "below" / "images"
    with replacing_folder(images) as new:
        (new / "a").write_text("1")
        assert not images.exists()
    (images.with_name(".images.new")).mkdir()  # as a process that was killed leaves it
    (images.with_name(".images.new") / "debris").touch()
    with pytest.raises(ValueError), replacing_folder(images, durable=False) as new:
        (new / "b").write_text("2")
        raise ValueError
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()] == [
        "below/images/a"
    ]
    with replacing_folder(images, durable=False) as new:
        (new / "b").write_text("2")
    assert [path.name for path in images.parent.iterdir()] == ["images"]
    assert [path.name for path in images.iterdir()] == ["b"]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ScfsError, match=r"images: could not be written: Not a directory"):  # noqa: SIM117
        with replacing_folder(tmp_path / "file" / "images"):
            pass


def test_a_file_moves_into_a_folder_that_is_made_for_it(tmp_path: Path) -> None:
    for durable in (True, False):
        (tmp_path / "part").write_text(f"{durable}")
        move_into_place(tmp_path / "part", tmp_path / "new" / "file", durable=durable)
        assert (tmp_path / "new" / "file").read_text() == f"{durable}" and not (tmp_path / "part").exists()
