"""Arrays on disk: what numpy reads is what was written, and the bytes say nothing of the occasion."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from scfs.io.atomic import write_arrays

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
