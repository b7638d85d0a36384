"""Reading Parquet starts no threads of Arrow's, which may abort a process that has done its work."""

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scfs.io.parquet import read_parquet

TABLE = pa.table({"path": ["a", "b", "a"], "size": [1, 2, 3]}).replace_schema_metadata({b"scfs": b"{}"})

CODE = """
import os, sys
import pyarrow as pa
from pathlib import Path
from scfs.data.official.layouts import missing_shards
from scfs.io.parquet import read_parquet
before = len(os.listdir("/proc/self/task"))
some = pa.table({"shard": ["x"] * 30_000, "offset": [0] * 30_000, "size": [1] * 30_000})
rows = pa.concat_tables([some] * 10)  # as many as Arrow gives to threads
table = read_parquet(sys.argv[1])
print(sorted(missing_shards(Path("."), rows)), len(table), len(os.listdir("/proc/self/task")) - before)
"""


def test_no_threads(tmp_path: Path) -> None:
    file = tmp_path / "table.parquet"
    pq.write_table(TABLE, file)
    done = subprocess.run([sys.executable, "-c", CODE, file], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "['x'] 3 0\n", done.stderr


def test_whole_or_some_columns_with_what_the_file_says_of_itself(tmp_path: Path) -> None:
    file = tmp_path / "table.parquet"
    pq.write_table(TABLE, file)
    assert read_parquet(file).equals(TABLE, check_metadata=True)
    assert read_parquet(file, ["size"]).to_pydict() == {"size": [1, 2, 3]}
    with file.open("rb") as opened:
        assert read_parquet(opened).equals(TABLE)


def test_what_is_not_a_table(tmp_path: Path) -> None:
    file = tmp_path / "table.parquet"
    with pytest.raises(FileNotFoundError):
        read_parquet(file)
    pq.write_table(TABLE, file)
    whole = file.read_bytes()
    for damaged in (b"PAR1 or so", whole[:-8], whole.replace(b"path", b"p\xffth")):
        file.write_bytes(damaged)
        with pytest.raises((pa.ArrowException, OSError)):
            read_parquet(file)
