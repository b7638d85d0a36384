"""Images of one's own that a table names: CSV or Parquet with a column `path` and, if there are labels, `label`."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as csv

from scfs.config.data import ImageTable
from scfs.data.image_set import with_labels
from scfs.data.manifest import MANIFEST, ManifestSplit, write_manifest
from scfs.data.sources.folders import probed_rows, require_readable
from scfs.data.sources.registry import PREPARE
from scfs.errors import ScfsError, reading
from scfs.io.parquet import read_parquet

READERS: dict[str, Callable[[Path], pa.Table]] = {".csv": csv.read_csv, ".parquet": read_parquet}
"""Readers by the ending of the table's name."""


@PREPARE.add("table")
def prepare_tables(name: str, config: ImageTable, folder: Path) -> None:
    """Open every image that the tables name, and write the manifest.

    A label is an index into the sorted names that all tables have.

    Raises:
        ScfsError: see `read_table`; or an image is missing or cannot be decoded (how many, and the first).
    """
    tables = {split: read_table(Path(file)) for split, file in config.splits.items()}
    classes = tuple(sorted({name for _, names in tables.values() for name in names or ()}))
    label = {name: number for number, name in enumerate(classes)}
    listed = []
    for split, (paths, names) in tables.items():
        root = Path(config.splits[split]).resolve().parent
        rows, problems = probed_rows(root, paths)
        require_readable(config.splits[split], problems, len(paths))
        if names is not None:
            rows = with_labels(rows, [label[name] for name in names])
        listed.append(ManifestSplit(split, str(root), rows, classes if names else ()))
    write_manifest(folder / MANIFEST, name, config, listed)


def read_table(file: Path) -> tuple[list[str], list[str] | None]:
    """Read the paths of images, absolute or relative to the table's folder, and their labels; None without that column.

    Raises:
        ScfsError: it cannot be read, is neither CSV nor Parquet, lacks `path`, has no rows or an empty cell, or names
            an image twice.
    """
    read = READERS.get(file.suffix)
    if read is None:
        raise ScfsError(f"{file}: a table of images ends in {' or '.join(READERS)}")
    try:
        with reading(file):
            table: pa.Table = read(file)
    except pa.ArrowException as error:
        raise ScfsError(f"{file}: not a table: {str(error).splitlines()[0]}") from None
    columns = {name: _texts(file, table, name) for name in ("path", "label") if name in table.column_names}
    if "path" not in columns:
        raise ScfsError(f"{file}: has no column 'path': its columns are {table.column_names}")
    if not columns["path"]:
        raise ScfsError(f"{file}: has no rows")
    path, times = Counter(columns["path"]).most_common(1)[0]
    if times > 1:
        raise ScfsError(f"{file}: {path!r} stands there {times} times: allowed is once")
    return columns["path"], columns.get("label")


def _texts(file: Path, table: pa.Table, name: str) -> list[str]:
    """Return a column as text: numbers are good labels too."""
    values = ["" if value is None else str(value) for value in table[name].to_pylist()]
    if "" in values:
        raise ScfsError(f"{file}: row {values.index('') + 1}: {name} is empty")
    return values
