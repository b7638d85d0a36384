"""Pickles of plain values and arrays: readable by Python and by any NumPy, and by us nothing else."""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scfs.errors import ScfsError
from scfs.io.safe_pickle import dump, load

VALUE = {
    "name": "ünicode",
    "true": True,
    "numbers": (1, 2.5, None),
    "nested": {"list": [1, 2]},
    "array": np.arange(6, dtype=np.float32).reshape(2, 3),
    "scalar": np.array(3.0),
}


def equal(one: Any, other: Any) -> bool:
    arrays = ("array", "scalar")
    return (
        all(np.array_equal(one[key], other[key]) and one[key].dtype == other[key].dtype for key in arrays)
        and all(one[key].shape == other[key].shape and one[key].flags.writeable for key in arrays)
        and all(one[key] == other[key] for key in other if key not in arrays)
    )


def test_python_reads_it_and_so_do_we(tmp_path: Path) -> None:
    path = tmp_path / "x.pkl"
    path.write_bytes(dump(VALUE))
    assert equal(pickle.loads(path.read_bytes()), VALUE) and equal(load(path), VALUE)
    # As Detectron2 opens it, for files of Python 2.
    assert equal(pickle.loads(path.read_bytes(), encoding="latin1"), VALUE)


def test_it_asks_for_nothing_that_numpy_ever_moved() -> None:
    asked = []

    class Listening(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            asked.append(f"{module}.{name}")
            return super().find_class(module, name)

    Listening(io.BytesIO(dump(VALUE))).load()
    assert set(asked) == {"numpy.ndarray", "builtins.bytearray"}
    assert dump(VALUE)[1] == 4  # the protocol


class Hostile:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("touched"),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps(Hostile()), r"it needs pathlib\.Path"),
        (pickle.dumps({"model": np.zeros(3)}), r"it needs numpy\.\S+, which is more than plain values and arrays"),
        (pickle.dumps(bytes.fromhex), r"it needs builtins\.getattr"),
        (b"cos\nsystem\n(S'touch touched'\ntR.", r"it needs os\.system"),
        (dump(np.zeros(3)).replace(b"<f8", b"|O8"), "not a readable pickle of arrays"),
        (dump(VALUE)[:-40], "not a readable pickle of arrays"),
        (b"no pickle", "not a readable pickle of arrays"),
        (b"", "not a readable pickle of arrays"),
        (b"cbuiltins\nbytearray\n(I99999999999\ntR.", "not a readable pickle of arrays"),
    ],
)
def test_anything_else_is_refused_unread(
    content: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.pkl").write_bytes(content)
    with pytest.raises(ScfsError, match=f"^x.pkl: .*{message}"):
        load(Path("x.pkl"))
    assert not Path("touched").exists()


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ScfsError, match=r"none\.pkl: cannot be read: No such file"):
        load(tmp_path / "none.pkl")
